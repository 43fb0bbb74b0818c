import pytest
import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mm_graft.commands.messages import ReportedError
from mm_graft.commands.running import StartedHook, build_runner, guarded, reported, without_absent_hooks
from mm_graft.files import WriteError
from mm_graft.host.safe_opening import load
from tests.tiny import mae, settings


def test_a_run_has_started_when_its_first_iteration_is_made():
    started = StartedHook()
    started.before_train_iter(runner=None, batch_idx=0)
    assert not started.started
    started.after_train_iter(runner=None, batch_idx=0)
    assert started.started


def test_a_guarded_program_opens_files_safely_and_says_what_is_wrong_in_one_line(capsys):
    before = torch.load
    with guarded():
        assert torch.load is load
    with pytest.raises(SystemExit), guarded():
        raise ValueError('wrong')
    assert capsys.readouterr().err.startswith('error: wrong\n')
    assert torch.load is before is not load


def test_a_runner_is_built_without_a_word_of_the_host_and_speaks_afterwards(tmp_path, monkeypatch, capsys):
    laid_out, lay_out = [], yapf_api.FormatCode
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **kwargs: laid_out.append(text) or lay_out(text, **kwargs))
    cfg = Config({**settings(mae(), tmp_path), 'log_level': 'INFO'})
    cfg.train_dataloader.dataset = dict(type='mm_graft.ImageFolder', data_root=str(tmp_path))
    runner = build_runner(cfg)
    runner.logger.info('heard')
    runner.logger.debug('not heard')
    runner.call_hook('before_run')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(' - ')[-1] for line in lines if 'INFO' in line or 'heard' in line] == [
        f'config and environment: {runner.log_dir}', 'heard']
    assert len(laid_out) == 1  # by the host, for its log and for its message hub


@pytest.mark.parametrize(('error', 'later'), [(ValueError, ReportedError), (WriteError, WriteError)])
def test_errors_after_the_first_iteration_are_of_the_run_but_for_a_full_disk(error, later):
    started = StartedHook()
    with pytest.raises(error), reported(started):
        raise error
    started.started = True
    with pytest.raises(later), reported(started):
        raise error


def test_hooks_that_a_config_takes_out_are_not_built():
    cfg = Config(dict(default_hooks=dict(preemption=None, timer=None, init=dict(type='Hook'))))
    assert without_absent_hooks(cfg).default_hooks == dict(timer=None, init=dict(type='Hook'))
    assert 'preemption' in cfg.default_hooks
    assert without_absent_hooks(Config(dict(default_hooks=None))).default_hooks is None
