import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import distributed

from mm_graft.commands import meeting
from mm_graft.commands.launchers import VARIABLES
from mm_graft.commands.meeting import leave, meet, starts_several, telling_others
from tests.own_process import SECONDS, in_processes

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


def stop_the_clock():
    """Let no time pass until two processes have come, and then all of it."""
    stores, opened = [], meeting.open_store
    meeting.open_store = lambda seconds: stores.append(opened(seconds)) or stores[-1]
    meeting.time = SimpleNamespace(sleep=time.sleep, monotonic=lambda: float(
        'inf' if stores and stores[0].add(meeting.CAME, 0) == 2 else 0))


def come(rank, folder, port, failing, missing):
    os.environ.update(RANK=str(rank), WORLD_SIZE='3', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    meeting.MINUTES = 0.05 if missing == 0 else 4.0
    if missing == 2:
        stop_the_clock()
    if rank == missing:
        return
    try:
        with telling_others('pytorch'):
            if rank == failing:
                raise FileNotFoundError('no data here')
        meet('pytorch')
        distributed.init_process_group('gloo')
        distributed.barrier()
        distributed.destroy_process_group()
        said = 'met'
    except (ValueError, OSError) as error:
        said = str(error)
    Path(folder, str(rank)).write_text(said)


def together(folder, failing=None, missing=None):
    in_processes(come, str(folder), free_port(), failing, missing, processes=3)
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_processes_that_all_come_go_on(tmp_path):
    assert together(tmp_path) == dict.fromkeys('012', 'met')


@pytest.mark.parametrize('failing', [0, 1])
def test_one_that_fails_before_ends_the_others_with_its_reason(tmp_path, failing):
    said = together(tmp_path, failing)
    assert said.pop(str(failing)) == 'no data here'
    assert list(said.values()) == [f'process {failing} of 3 has failed: no data here'] * 2


@pytest.mark.parametrize(('missing', 'message'), [
    (2, 'only 2 of 3 processes connected within 4 minutes; see the logs of the others'),
    (0, 'did not reach process 0 at 127.0.0.1:')])
def test_one_that_does_not_come_is_named_when_the_time_is_up(tmp_path, missing, message):
    said = together(tmp_path, missing=missing)
    assert len(said) == 2
    assert message in said['1' if missing == 0 else '0']
    assert 'met' not in said.values()


def work_alone(rank, folder, port):
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    meet('pytorch')
    distributed.init_process_group('gloo', timeout=timedelta(seconds=1))
    if rank == 0:
        time.sleep(3)
        Path(folder, 'done').touch()
    leave('pytorch')
    assert Path(folder, 'done').exists()
    assert not distributed.is_initialized()


def test_at_the_end_others_wait_longer_than_a_group_allows(tmp_path):
    in_processes(work_alone, str(tmp_path), free_port(), processes=2)


def test_a_process_alone_meets_nobody(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert not starts_several('none')
    assert not starts_several('pytorch')  # started by hand
    for name in ('RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '1')
    assert starts_several('pytorch')
    monkeypatch.setenv('WORLD_SIZE', '1')
    assert not starts_several('pytorch')
    meet('pytorch')


def test_a_run_whose_other_process_has_no_data_ends_with_the_reason(config, tmp_path):
    port, processes = free_port(), []
    for rank, data in enumerate((tmp_path / 'images', tmp_path / 'nowhere')):
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'RANK': str(rank), 'LOCAL_RANK': str(rank),
                       'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'CUDA_VISIBLE_DEVICES': ''}
        words = ['-m', 'mm_graft', 'train', str(config), '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'run'),
                 '--cfg-options', f'train_dataloader.dataset.data_root={data}']
        processes.append(subprocess.Popen([sys.executable, *words], env=environment, text=True, cwd=tmp_path,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    said = [process.communicate(timeout=SECONDS)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert 'error: process 1 of 2 has failed: data folder' in said[0]
    assert 'error: data folder' in said[1]
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_started_nothing_is_named(launcher, monkeypatch):
    for name in {*os.environ} & {'RANK', *VARIABLES[launcher]}:
        monkeypatch.delenv(name)
    monkeypatch.setenv('LOCAL_RANK', '0')  # which a command sets itself
    with pytest.raises(ValueError, match=f'--launcher {launcher}, but this process was not started by .*run'):
        meet(launcher)
