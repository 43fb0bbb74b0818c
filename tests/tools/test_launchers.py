"""The shell scripts that start many processes, with stand-ins for slurm's commands."""

import os
import signal
import subprocess
import time

import pytest

from tests.test_tools import ROOT, script


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
