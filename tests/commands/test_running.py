import os

import pytest
import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mm_graft.commands.running import StartedHook, build_runner, guarded, slurm_to_torch
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


def test_a_slurm_step_is_told_to_torch(monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho node7\necho node8\n')
    scontrol.chmod(0o755)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    for name, value in {'PROCID': '5', 'NTASKS': '8', 'LOCALID': '1', 'NODELIST': 'node[7-8]'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    slurm_to_torch()
    assert [os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')] == [
        '5', '8', '1', 'node7', '29500']


def test_a_slurm_launch_without_slurm_is_named(monkeypatch):
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    with pytest.raises(ValueError, match='srun'):
        slurm_to_torch()
