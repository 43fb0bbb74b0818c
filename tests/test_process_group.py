import time
from pathlib import Path

from torch import distributed

from mm_graft.process_group import leave_group
from tests.own_process import in_processes


def leave_late(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    if rank == 1:
        time.sleep(1)
        Path(folder, 'late').touch()
    leave_group()
    assert Path(folder, 'late').exists()
    assert not distributed.is_initialized()
    leave_group()  # of no group


def test_processes_wait_for_each_other_and_leave(tmp_path):
    in_processes(leave_late, str(tmp_path), processes=2)
