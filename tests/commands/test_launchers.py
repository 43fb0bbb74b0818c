import os

import pytest

from mm_graft.commands.launchers import VARIABLES, slurm_to_torch, told


def test_each_launcher_is_asked_by_its_own_names(monkeypatch):
    for number, name in enumerate(name for names in VARIABLES.values() for name in names):
        monkeypatch.setenv(name, str(number))
    found = {launcher: [told(launcher, what) for what in ('rank', 'local_rank', 'processes', 'here')]
             for launcher in VARIABLES}
    assert found == {'pytorch': ['0', '1', '2', '3'], 'slurm': ['4', '5', '6', '7'], 'mpi': ['8', '9', '10', '11']}
    monkeypatch.delenv('WORLD_SIZE')
    assert told('pytorch', 'processes') is told('none', 'rank') is told(None, 'rank') is None


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
