"""The shell scripts that start many processes, with stand-ins for slurm's commands."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.own_process import SECONDS

ROOT = Path(__file__).parents[2]


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
    output = process.communicate(timeout=SECONDS)[0]
    assert ('scontrol requeue 7' in output) is again
    assert ('saved' in output) is warned
    assert process.returncode == (status if warned else 0)


@pytest.fixture
def stub(tmp_path):
    """A program that prints what it was called with."""
    path = tmp_path / 'bin' / 'srun'
    path.parent.mkdir()
    path.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    path.chmod(0o755)
    return path


def script(name, *arguments, **environment):
    known = {key: value for key, value in os.environ.items() if key not in ('NNODES', 'NODE_RANK', 'GPUS', 'PORT')}
    return subprocess.run(['bash', str(ROOT / 'tools' / name), *arguments], text=True, capture_output=True, check=False,
                          env=known | environment)


@pytest.mark.parametrize(('name', 'arguments', 'tool'), [
    ('dist_train.sh', ['config.py', '8', '--amp', '--cfg-options', 'a=b c'], 'train.py'),
    ('dist_test.sh', ['config.py', 'file.pth', '8', '--out', 'p.pkl'], 'test.py')])
def test_processes_are_started_on_one_or_many_nodes(stub, name, arguments, tool):
    words = script(name, *arguments, PYTHON=str(stub)).stdout.splitlines()
    gpus = arguments.index('8')
    assert words == ['-m', 'torch.distributed.run', '--nnodes=1', '--node-rank=0', '--nproc-per-node=8',
                     '--master-addr=127.0.0.1', '--master-port=29500', str(ROOT / 'tools' / tool), *arguments[:gpus],
                     '--launcher', 'pytorch', *arguments[gpus + 1:]]
    words = script(name, *arguments, PYTHON=str(stub), NNODES='4', NODE_RANK='3', MASTER_ADDR='host', PORT='1').stdout
    assert words.splitlines()[2:7] == ['--nnodes=4', '--node-rank=3', '--nproc-per-node=8', '--master-addr=host',
                                       '--master-port=1']


def test_processes_that_start_again_meet_anew_and_resume(stub):
    words = script('dist_train.sh', 'config.py', '2', PYTHON=str(stub), MAX_RESTARTS='3', PORT='1').stdout.splitlines()
    assert words == ['-m', 'torch.distributed.run', '--nnodes=1', '--nproc-per-node=2', '--rdzv-backend=c10d',
                     '--rdzv-endpoint=127.0.0.1:1', '--rdzv-id=mm_graft', '--local-addr=127.0.0.1', '--max-restarts=3',
                     str(ROOT / 'tools' / 'train.py'), 'config.py', '--launcher', 'pytorch', '--resume']
    words = script('dist_train.sh', 'config.py', '2', PYTHON=str(stub), MAX_RESTARTS='3', NNODES='2:4',
                   RDZV_ENDPOINT='host:29400').stdout.splitlines()
    assert '--rdzv-endpoint=host:29400' in words
    assert not any(word.startswith('--local-addr') for word in words)


@pytest.mark.parametrize(('name', 'arguments', 'tool'), [
    ('slurm_train.sh', ['part', 'job', 'config.py', '--amp', '--cfg-options', 'a=b c'], 'train.py'),
    ('slurm_test.sh', ['part', 'job', 'config.py', 'file.pth', '--out', 'p.pkl'], 'test.py')])
def test_slurm_is_asked_for_what_was_asked(stub, name, arguments, tool):
    path = f'{stub.parent}{os.pathsep}{os.environ["PATH"]}'
    words = script(name, *arguments, PATH=path, GPUS='16', GPUS_PER_NODE='4', CPUS_PER_TASK='7', PYTHON='py',
                   SRUN_ARGS='--quotatype=spot --exclusive').stdout.splitlines()
    last = 3 if tool == 'train.py' else 4
    assert words == ['-p', 'part', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
                     '--cpus-per-task=7', '--kill-on-bad-exit=1', '--quotatype=spot', '--exclusive', 'py', '-u',
                     str(ROOT / 'tools' / tool), *arguments[2:last], '--launcher', 'slurm', *arguments[last:]]


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_too_few_words_are_answered_with_the_usage(name):
    done = script(name, 'config.py')
    assert done.returncode == 2
    assert f'tools/{name}' in done.stderr
