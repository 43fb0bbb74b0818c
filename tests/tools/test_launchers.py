"""The shell scripts that start many processes, with stand-ins for slurm's commands."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.test_resume import differences
from tests.test_tools import CONFIG, ROOT, script
from tests.tiny import grafted_mocov3, mae_file


@pytest.fixture
def bin_(tmp_path):
    """A function that puts a command into the path."""
    folder = tmp_path / 'bin'
    folder.mkdir()

    def put(name, text):
        (folder / name).write_text(f'#!/bin/bash\n{text}\n')
        (folder / name).chmod(0o755)
        return f'{folder}{os.pathsep}{os.environ["PATH"]}'

    return put


def test_nodes_can_meet_by_themselves_and_start_again(bin_):
    path = bin_('stub', 'printf "%s\\n" "$@"')
    words = script('dist_train.sh', 'config.py', '8', '--amp', PYTHON='stub', PATH=path, NNODES='2:4',
                   RDZV_ENDPOINT='host:1', RDZV_ID='a', MAX_RESTARTS='3').stdout.splitlines()
    assert words == ['-m', 'torch.distributed.run', '--nnodes=2:4', '--nproc-per-node=8', '--rdzv-backend=c10d',
                     '--rdzv-endpoint=host:1', '--rdzv-id=a', '--max-restarts=3', str(ROOT / 'tools' / 'train.py'),
                     'config.py', '--launcher', 'pytorch', '--amp', '--resume']


def test_a_job_that_can_come_back_is_submitted_with_a_warning_before_its_end(bin_):
    path = bin_('sbatch', 'printf "%s\\n" "$@"; cat')
    words = script('slurm_train.sh', 'part', 'job', 'config.py', '--cfg-options', 'a=b c', PATH=path, REQUEUE='90',
                   SBATCH_ARGS='--time=1:00:00 -A me', GPUS='16').stdout
    for word in ('-p', 'part', '--requeue', '--signal=B:USR1@90', '--open-mode=append', '--time=1:00:00', '-A', 'me',
                 '--ntasks=16'):
        assert word in words.splitlines(), word
    assert r'--launcher slurm --resume --cfg-options a=b\ c' in words


BATCH = """
(cat > job.sh; SLURM_JOB_ID=7 bash job.sh & echo $! > pid; wait $!)
"""
STEP = """
echo started
trap 'echo saved; exit {status}' USR1
for _ in $(seq {seconds}); do sleep 0.1; done
echo through
"""


@pytest.mark.parametrize(('warned', 'status', 'again'), [(True, 0, True), (True, 3, False), (False, 0, False)])
def test_the_job_is_queued_again_where_it_was_warned_and_saved(bin_, tmp_path, warned, status, again):
    bin_('srun', STEP.format(status=status, seconds=3000 if warned else 1))
    bin_('scontrol', 'echo scontrol "$@"')
    path = bin_('sbatch', BATCH)
    process = subprocess.Popen(
        ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'part', 'job', 'config.py'], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, env={**os.environ, 'PATH': path, 'REQUEUE': '90', 'SRUN_ARGS': ''})
    if warned:
        assert process.stdout.readline() == 'started\n'
        time.sleep(0.3)
        os.kill(int((tmp_path / 'pid').read_text()), signal.SIGUSR1)
    output = process.communicate(timeout=60)[0]
    assert ('scontrol requeue 7' in output) is again
    assert ('saved' in output) is warned
    assert process.returncode == (status if warned else 0)


CRASH = """
custom_hooks = [dict(type='CrashOnce')]
custom_imports = dict(imports=['crash_once'], allow_failed_imports=False)
"""
CRASH_ONCE = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class CrashOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0' and runner.iter == 3 and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_processes_of_which_one_is_killed_start_again_and_end_with_the_same_bits(tmp_path):
    import cv2
    import numpy as np
    (tmp_path / 'images').mkdir()
    for index in range(8):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'),
                    np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    model = grafted_mocov3(mae_file(tmp_path / 'mae.pth'))
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, folder=tmp_path, model=model) + CRASH)
    (tmp_path / 'crash_once.py').write_text(CRASH_ONCE)
    for name, restarts in (('whole', '0'), ('crashed', '1')):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        done = script('dist_train.sh', str(tmp_path / 'config.py'), '2', '--work-dir', str(tmp_path / name),
                      *(['--cfg-options', 'custom_hooks=[]'] if restarts == '0' else []), PYTHON=sys.executable,
                      PORT=str(port), MAX_RESTARTS=restarts, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='',
                      PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert differences(tmp_path, 'whole', 'crashed', 2) == []
    assert 'resumed epoch: 1, iter: 2' in ''.join(path.read_text() for path in (tmp_path / 'crashed').rglob('*.log'))
    assert Path(tmp_path / 'crashed' / 'epoch_2.pth').is_file()
    assert torch.load(tmp_path / 'crashed' / 'epoch_2.pth', weights_only=False)['meta']['iter'] == 4
