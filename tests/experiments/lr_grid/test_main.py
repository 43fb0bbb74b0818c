"""The command as a user would give it, run inside this process; what it starts is looked at, not run."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / 'configs/graft/vit-b_mae2mocov3.py')


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run the tool on a grid of two multipliers; gives the commands that it started."""
    started = []

    def fake(command, check):
        started.append(command)
        if command[1].endswith('train.py'):
            folder = Path(command[command.index('--work-dir') + 1])
            folder.mkdir(parents=True)
            (folder / 'last_checkpoint').write_text('last.pth\n')
        else:
            folder = Path(command[command.index('--out') + 1])
            (folder / 'report.json').write_text(json.dumps({'protocols': {'knn': {'top1': 10.0}}}))

    monkeypatch.setattr(subprocess, 'run', fake)

    def run(*options, config=CONFIG):
        started.clear()
        monkeypatch.setattr(sys, 'argv', ['lr_grid', config, '--multipliers', '0.1', '1', '--work-dir', str(tmp_path),
                                          '--protocols', 'knn', *options])
        runpy.run_module('experiments.lr_grid', run_name='__main__')
        return list(started)

    return run


def test_every_point_is_trained_and_evaluated_once_and_drawn(call, tmp_path):
    started = call('--cfg-options', 'train_cfg.max_epochs=1')
    assert len(started) == 16
    train, evaluate = started[:2]
    assert train[-2:] == ['train_cfg.max_epochs=1', 'optim_wrapper.paramwise_cfg.stage_lr_mult=[1,1,1]']
    assert '--resume' in train
    assert evaluate[3] == 'last.pth'
    assert Image.open(tmp_path / 'knn.png').format == 'PNG'
    (tmp_path / '0.1_1_1' / 'report.json').unlink()
    for path in (tmp_path / '0.1_1_1').iterdir():
        path.unlink()
    (tmp_path / '0.1_1_1').rmdir()
    assert len(call()) == 2


def test_a_run_that_fails_ends_the_grid_in_one_line(call, capsys, monkeypatch):
    def fail(command, check):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, 'run', fail)
    with pytest.raises(SystemExit):
        call()
    assert 'error: Command' in capsys.readouterr().err


def test_a_dry_run_prints_what_is_left_and_starts_nothing(call, capsys):
    assert call('--dry-run') == []
    assert capsys.readouterr().out.count('stage_lr_mult=') == 8


def test_trainings_on_several_devices_go_through_the_launcher_with_a_scaled_rate(call, capsys):
    call('--dry-run', '--gpus', '8', '--auto-scale-lr')
    lines = capsys.readouterr().out.splitlines()
    trainings = [line for line in lines if 'stage_lr_mult=' in line]
    assert all(f'dist_train.sh {CONFIG} 8 --auto-scale-lr --work-dir' in line for line in trainings)
    call('--dry-run')
    assert 'dist_train' not in (told := capsys.readouterr().out)
    assert '--auto-scale-lr' not in told


def test_a_config_without_three_stages_is_refused(call, capsys):
    with pytest.raises(SystemExit):
        call(config=str(ROOT / 'configs/graft/vit-b_mae.py'))
    assert 'has 1 stages' in capsys.readouterr().err
