"""A run that is killed in the middle of an epoch and resumed ends with the bits of an uninterrupted one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.tiny import grafted_mocov3, mae_file

ROOT = Path(__file__).parents[1]
CONFIG = """
_base_ = ['{root}/configs/_base_/runtime.py']
model = {model}
view = [
    dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.3, 1.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
    dict(type='RandomFlip', prob=0.5),
]
train_dataloader = dict(
    batch_size=4, num_workers=2, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='{folder}/images', with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=[2], transforms=[view]),
                  dict(type='PackInputs')]))
optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
custom_imports = dict(imports=['sudden_end'], allow_failed_imports=False)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook'), dict(type='SuddenEnd', priority='LOWEST')]
"""
SUDDEN_END = """
import os
import signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class SuddenEnd(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if os.environ.get('SUDDEN_END') and (runner.epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def start(tmp_path):
    """A function that starts tools/train.py in a process of its own."""
    (tmp_path / 'images').mkdir()
    for index in range(20):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), pixels)
    model = grafted_mocov3(mae_file(tmp_path / 'mae.pth'), drop_path_rate=0.2)
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT, folder=tmp_path, model=model))
    (tmp_path / 'sudden_end.py').write_text(SUDDEN_END)

    def process(name, *flags, **environment):
        return subprocess.Popen(
            [sys.executable, str(ROOT / 'tools' / 'train.py'), str(tmp_path / 'config.py'), '--work-dir',
             str(tmp_path / name), *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{tmp_path}', 'OMP_NUM_THREADS': '1',
                 'CUDA_VISIBLE_DEVICES': '', **environment})

    return process


def flat(value, name=''):
    """All tensors and numbers in nested dicts and lists, by path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, child in items for path, leaf in flat(child, f'{name}.{key}').items()}
    return {name: value}


def same(left, right):
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


def test_a_killed_and_resumed_run_ends_with_the_same_bits(start, tmp_path):
    whole, killed = start('whole'), start('parts', SUDDEN_END='1')
    output = whole.communicate()[0]
    assert whole.returncode == 0, output
    output = killed.communicate()[0]
    assert killed.returncode == -signal.SIGKILL, output
    assert sorted(path.name for path in (tmp_path / 'parts').glob('*.pth')) == ['epoch_1.pth']
    resumed = start('parts', '--resume')
    output = resumed.communicate()[0]
    assert resumed.returncode == 0, output
    assert 'resumed epoch: 1' in output

    expected, actual = (torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False) for name in ('whole', 'parts'))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        left, right = flat(expected[part]), flat(actual[part])
        assert left.keys() == right.keys()
        assert [name for name in left if not same(left[name], right[name])] == [], part
