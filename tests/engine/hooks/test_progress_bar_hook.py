import io
import sys

import pytest
from mmengine.runner import Runner

from mm_graft.engine.hooks.progress_bar_hook import ProgressBarHook
from tests.tiny import mae, settings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(stream, **kwargs):
        monkeypatch.setattr(sys, 'stderr', stream)
        (tmp_path / 'run').mkdir(exist_ok=True)
        hook = ProgressBarHook()
        config = settings(mae(), tmp_path / 'run', epochs=2, custom_hooks=[hook], log_level='INFO', **kwargs)
        config['train_dataloader']['dataset'] = OneView()
        runner = Runner(**config)
        levels = [handler.level for handler in runner.logger.handlers]
        runner.train()
        assert [handler.level for handler in runner.logger.handlers] == levels
        assert hook.bar is None
        return stream.getvalue()

    return run


class OneView:
    def __len__(self):
        return 16

    def __getitem__(self, index):
        import torch
        from mmpretrain.structures import DataSample
        return {'inputs': torch.rand(3, 32, 32), 'data_samples': DataSample()}


def test_a_terminal_shows_place_loss_rate_and_speed(run, capsys):
    text = run(Terminal())
    for part in ('run: ', '8/8', 'epoch=2/2', 'loss=', 'lr=0.01', 'img/s='):
        assert part in text, part


def test_the_log_keeps_its_lines_in_the_file_while_the_bar_is_drawn(run, tmp_path):
    run(Terminal())
    log, = (tmp_path / 'run').glob('*/*.log')
    assert 'Epoch(train)' in log.read_text()


def test_elsewhere_nothing_is_drawn(run):
    assert 'it/s' not in run(io.StringIO())


