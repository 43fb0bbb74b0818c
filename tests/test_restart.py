"""torchrun starts all processes again when one was killed, and the run ends with the bits of an undisturbed one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.own_process import SECONDS
from tests.tiny import grafted_mocov3

ROOT = Path(__file__).parents[1]
CONFIG = f"""
_base_ = ['{ROOT}/configs/_base_/runtime.py']
default_scope = 'mmengine'
custom_imports = dict(imports=['restart_parts'])
model = dict(type='SquaredLinear')
train_dataloader = dict(
    batch_size=2, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'), dataset=dict(type='DrawnNumbers'))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
visualizer = dict(_delete_=True, type='Visualizer', vis_backends=[])
custom_hooks = [dict(type='KilledOnce')]
"""


def run(config, work_dir, **variables):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [str(ROOT / 'tools' / 'dist_train.sh'), str(config), '2', '--work-dir', str(work_dir)], text=True,
        timeout=SECONDS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={**os.environ, 'PYTHON': sys.executable, 'PORT': str(port), 'OMP_NUM_THREADS': '1',
             'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT / 'tests'), **variables})


def run_undisturbed(config, work_dir):
    work_dir.mkdir()
    (work_dir / 'killed').touch()
    whole = run(config, work_dir)
    assert whole.returncode == 0, whole.stdout[-3000:]


def assert_same_bits(*work_dirs):
    left, right = (torch.load(work_dir / 'epoch_3.pth', weights_only=False) for work_dir in work_dirs)
    assert left['meta']['iter'] == right['meta']['iter'] == 15
    for key, value in left['state_dict'].items():
        assert torch.equal(value, right['state_dict'][key]), key


@pytest.mark.slow
def test_a_group_of_which_one_was_killed_starts_again_and_ends_with_the_same_bits(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    run_undisturbed(config, tmp_path / 'whole')
    killed = run(config, tmp_path / 'again', MAX_RESTARTS='1')
    assert killed.returncode == 0, killed.stdout[-3000:]
    assert f'resume from {tmp_path}/again/epoch_1.pth' in killed.stdout
    assert_same_bits(tmp_path / 'whole', tmp_path / 'again')


@pytest.mark.slow
@pytest.mark.parametrize(('how', 'code'), [('name=\'SIGKILL\'', 0), ('iteration=6, name=\'SIGTERM\', parent=True', 1)])
def test_a_group_that_keeps_shards_is_interrupted_and_ends_with_the_same_bits(tmp_path, how, code):
    config = tmp_path / 'config.py'
    text = CONFIG.replace("default_scope = 'mmengine'", "default_scope = 'mmpretrain'").replace(
        "dict(type='SquaredLinear')", str(grafted_mocov3())).replace('DrawnNumbers', 'TwoNoisyViews')
    config.write_text(text.replace("'KilledOnce'", f"'KilledOnce', {how}")
                      + "runner_type = 'mm_graft.FullyShardedRunner'\n")
    run_undisturbed(config, tmp_path / 'whole')
    stopped = run(config, tmp_path / 'again', MAX_RESTARTS='1')
    if code:  # torchrun itself was asked to stop
        assert 'requested a stop: saved iteration' in stopped.stdout, stopped.stdout[-3000:]
        stopped = run(config, tmp_path / 'again', MAX_RESTARTS='1')
    assert stopped.returncode == 0, stopped.stdout[-3000:]
    assert f'resume from {tmp_path}/again/{"stopped" if code else "epoch_1"}.pth' in stopped.stdout
    assert_same_bits(tmp_path / 'whole', tmp_path / 'again')


@pytest.mark.slow
def test_without_restarts_a_killed_process_ends_the_run_with_an_error(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    killed = run(config, tmp_path / 'run')
    assert killed.returncode != 0
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
    assert not (tmp_path / 'run' / 'epoch_2.pth').exists()


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_the_run_goes_on_with_resume(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.replace("'KilledOnce'", "'KilledOnce', iteration=1, name='SIGTERM', parent=True"))
    stopped = run(config, tmp_path / 'run')
    assert 'requested a stop: saved iteration 10' in stopped.stdout, stopped.stdout[-3000:]
    assert stopped.returncode != 0  # so says torchrun, whatever its processes do
    resumed = run(config, tmp_path / 'run', MAX_RESTARTS='1')
    assert resumed.returncode == 0, resumed.stdout[-3000:]
    assert f'resume from {tmp_path}/run/stopped.pth' in resumed.stdout
    assert torch.load(tmp_path / 'run' / 'epoch_3.pth', weights_only=False)['meta']['iter'] == 15
