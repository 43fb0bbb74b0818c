"""The commands as users give them."""

import json
import logging
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mm_graft.commands.running import TRACEBACK
from tests.tiny import grafted_mocov3, mae_file

ROOT = Path(__file__).parents[1]
CONFIG = """
_base_ = ['{root}/configs/_base_/runtime.py']
model = {model}
view = [dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.3, 1.0))]
train_dataloader = dict(
    batch_size=2, num_workers=0, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='{folder}/images', with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=[2], transforms=[view]),
                  dict(type='PackInputs')]))
optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
"""


@pytest.fixture
def config(tmp_path):
    """A config that would train."""
    (tmp_path / 'images').mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), pixels)
    path = tmp_path / 'config.py'
    model = grafted_mocov3(mae_file(tmp_path / 'mae.pth'))
    path.write_text(CONFIG.format(root=ROOT, folder=tmp_path, model=model))
    return path


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """A function that runs a tool in this process and returns the one line with which it ends."""
    monkeypatch.delenv(TRACEBACK, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # a logger may hold the stderr of an earlier test
    monkeypatch.chdir(tmp_path)

    def run(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        captured = capsys.readouterr()
        assert exit_.value.code == 1
        assert 'Traceback' not in captured.err
        assert 'Epoch(train)' not in captured.out
        lines = [line for line in captured.err.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, captured.err
        return lines[0]

    return run


def option(text):
    return '--cfg-options', text


REFUSED = {
    'data folder': (option('train_dataloader.dataset.data_root=no/where'),
                    ('data folder no/where (train_dataloader.dataset.data_root) does not exist', '--cfg-options')),
    'checkpoint': (option('model.mim_checkpoint=no/where.pth'),
                   ('checkpoint no/where.pth (model.mim_checkpoint) does not exist', '--cfg-options')),
    'foreign checkpoint': (option('model.mim_checkpoint=resnet.pth'), ('resnet.pth', 'no known layout', 'known are')),
    'other width': (option('model.mim_checkpoint=wide.pth'), ('wide.pth', 'another shape', 'use the same width')),
    'stages': (option('optim_wrapper.paramwise_cfg.stage_lr_mult=[0.1,0.1,1.0]'),
               ('3 stages do not divide 4 blocks evenly; choose one of [1, 2, 4]', )),
    'optimizer': (option('optim_wrapper.optimizer.type=AdamWW'), ("no optimizer 'AdamWW'", 'did you mean')),
    'data to validate on': (option('val_dataloader.dataset.data_root=no/where'),
                            ('data folder no/where (val_dataloader.dataset.data_root) does not exist', )),
    'name of no use': (option('view=1'), ('--cfg-options view would change nothing', 'what was made of it')),
    'misspelt key': (option('train_cfgg.max_epochs=1'), ('no `train_cfgg` in a config; did you mean `train_cfg`', )),
    'large batch': (option('train_dataloader.batch_size=256'),
                    ('8 images are fewer than one batch of 256', '--cfg-options train_dataloader.batch_size=8')),
    'type': (option('model.type=mm_graft.GraftedMoCoV4'), ('GraftedMoCoV4 is not in', )),
    'argument': (option('model.momentum=1.5'), ('EMA momentum 1.5', '[0, 1]')),
    'warm-up': (option('param_scheduler.warmup=9'), ('warmup=', 'shorten it or train longer')),
    'batch size': (('--auto-scale-lr', ), ('does not say for which batch size', 'auto_scale_lr=dict(base_batch_size=')),
    'resume': (('--resume', 'no/where.pth'), ('checkpoint no/where.pth (load_from) does not exist', )),
}


@pytest.mark.parametrize(('arguments', 'parts'), REFUSED.values(), ids=REFUSED)
def test_training_refuses_wrong_inputs_in_one_line_before_it_starts(refused, config, tmp_path, arguments, parts):
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    mae_file(tmp_path / 'wide.pth', width=32)
    line = refused('train.py', config, *arguments)
    assert [part for part in parts if part not in line] == [], line
    assert not list(tmp_path.glob('work_dirs/*/*.pth'))


@pytest.mark.parametrize('tool', ['train.py', 'param_groups.py'])
def test_a_config_that_does_not_exist_is_named(refused, tool):
    assert 'config no/where.py does not exist' in refused(tool, 'no/where.py')


@pytest.mark.parametrize(('text', 'message'), [('a = (', 'was never closed'), ('a = b', "name 'b' is not defined"),
                                               ("_base_ = 'no.py'", 'no.py')])
def test_a_config_that_cannot_be_read_is_one_line(refused, tmp_path, text, message):
    (tmp_path / 'config.py').write_text(text)
    assert message in refused('train.py', tmp_path / 'config.py')


def test_a_wrong_path_ends_a_real_process_with_a_failure():
    done = subprocess.run([sys.executable, 'tools/train.py', 'no/where.py'], cwd=ROOT, text=True, capture_output=True,
                          check=False, env=os.environ | {'PYTHONPATH': str(ROOT)})
    assert done.returncode == 1
    assert 'error: config no/where.py does not exist' in done.stderr
    assert 'Traceback' not in done.stderr


def test_testing_refuses_what_it_cannot_test(refused, config, tmp_path):
    assert 'has no test_dataloader' in refused('test.py', config, tmp_path / 'mae.pth')
    assert 'config no/where.py does not exist' in refused('test.py', 'no/where.py', 'file.pth')
    with config.open('a') as file:
        file.write('test_dataloader = dict(batch_size=1)\n')
    assert 'checkpoint no/where.pth does not exist; give the path' in refused('test.py', config, 'no/where.pth')


def test_testing_and_measuring_name_a_data_folder_that_does_not_exist(refused, config, tmp_path):
    with config.open('a') as file:
        file.write('test_dataloader = dict(dataset=dict(data_root="no/where"))\n')
    line = refused('test.py', config, tmp_path / 'mae.pth')
    assert 'data folder no/where (test_dataloader.dataset.data_root)' in line
    nowhere = option('train_dataloader.dataset.data_root=no/where')
    assert 'data folder no/where (train_dataloader.' in refused('benchmark.py', 'loader', config, *nowhere)


def test_training_warns_where_the_rate_is_for_another_batch(config, tmp_path):
    with config.open('a') as file:
        file.write('auto_scale_lr = dict(base_batch_size=4096)\n')
    command = [sys.executable, 'tools/train.py', str(config), '--work-dir', str(tmp_path / 'run')]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True,
                          env=os.environ | {'PYTHONPATH': str(ROOT)})
    lines = [line for line in (done.stdout + done.stderr).splitlines() if 'meant for batches of 4096 images' in line]
    assert len(lines) == 1
    assert '--auto-scale-lr' in lines[0]


def test_parameter_groups_have_the_promised_keys(config, tmp_path, monkeypatch, capsys):
    place = tmp_path / 'new' / 'table.json'
    monkeypatch.setattr(sys, 'argv', ['param_groups.py', str(config), '--json', str(place)])
    runpy.run_path(str(ROOT / 'tools' / 'param_groups.py'), run_name='__main__')
    table = json.loads(place.read_text())
    assert all({'name', 'depth', 'stage', 'lr_mult', 'weight_decay', 'trained'} <= set(row) for row in table)
    assert {row['stage'] for row in table} == {None, 1, 2}
    assert 'not trained' in capsys.readouterr().out


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


FROZEN = '[0.0,1.0]'


@pytest.mark.parametrize('stages', ['[0.1,1.0]', FROZEN])
def test_two_processes_train_together_with_slow_or_frozen_stages(config, tmp_path, stages):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    done = script('dist_train.sh', str(config), '2', '--work-dir', str(tmp_path / 'run'), '--cfg-options',
                  'env_cfg.dist_cfg.backend=gloo', f'optim_wrapper.paramwise_cfg.stage_lr_mult={stages}',
                  f'find_unused_parameters={stages == FROZEN}',
                  PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stdout + done.stderr
    saved = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    assert saved['meta']['iter'] == 4  # 8 images, 2 processes of 2 images each, 2 epochs
    start = torch.load(tmp_path / 'mae.pth', weights_only=True)['model']
    kept = torch.equal(saved['state_dict']['backbone.layers.0.ln1.weight'], start['blocks.0.norm1.weight'])
    assert kept == (stages == FROZEN)
