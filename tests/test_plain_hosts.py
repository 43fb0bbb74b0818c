"""A plain config of each host takes our parts by their prefix, with nothing imported by hand."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from tests.tiny import mae_file

ROOT = Path(__file__).parents[1]
OURS = """
optim_wrapper = dict(
    type='OptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1), paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
custom_hooks = [dict(type='mm_graft.WeightAnchor', checkpoint='{folder}/anchor.pth', weight=0.1, max_depth=4, p=1)]
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='gloo'))
work_dir = '{folder}/run'
"""
SIMMIM = """
_base_ = 'mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py'
arch = dict(_delete_=True, embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
model = dict(
    backbone=dict(arch=arch, img_size=64, stage_cfgs=dict(block_cfgs=dict(window_size=2))),
    neck=dict(in_channels=64))
view = [dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=64),
        dict(type='SimMIMMaskGenerator', input_size=64, mask_patch_size=32, model_patch_size=4, mask_ratio=0.6),
        dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(_delete_=True, type='CustomDataset', data_root='{folder}/images', with_label=False, pipeline=view))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)
param_scheduler = []
""" + OURS
SEGMENTOR = """
_base_ = ['mmseg::_base_/models/upernet_vit-b16_ln_mln.py', 'mmseg::_base_/default_runtime.py']
data_preprocessor = dict(type='SegDataPreProcessor', size=(32, 32), pad_val=0, seg_pad_val=255)
head = dict(_delete_=True, type='FCNHead', in_channels=16, channels=8, num_convs=1, num_classes=2,
            norm_cfg=dict(type='BN'))
model = dict(
    pretrained=None, data_preprocessor=data_preprocessor, neck=None, auxiliary_head=None,
    backbone=dict(_delete_=True, type='mmpretrain.VisionTransformer', arch=dict(
        embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8,
        out_type='featmap', out_indices=[3]),
    decode_head=head)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset', data_root='{folder}', metainfo=dict(classes=['a', 'b']), img_suffix='.png',
        seg_map_suffix='.png', data_prefix=dict(img_path='images', seg_map_path='maps'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                  dict(type='RandomCrop', crop_size=(32, 32)), dict(type='PackSegInputs')]))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2)
""" + OURS
SCRIPT = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
assert 'mm_graft' not in sys.modules
if sys.argv[2] == 'mmseg':  # mmengine looks for the package under the name of another distribution
    from mmengine.config import utils
    utils.MODULE2PACKAGE['mmseg'] = 'mmseg'
Runner.from_cfg(Config.fromfile(sys.argv[1])).train()
"""


@pytest.fixture(scope='module')
def plain_runs(tmp_path_factory):
    """A config of each host that names our parts by their prefix, in a process that imports only mmengine."""
    processes = {}
    for host, text in (('mmpretrain', SIMMIM), ('mmseg', SEGMENTOR)):
        folder = tmp_path_factory.mktemp(host)
        for name, high in (('images', 255), ('maps', 2)):
            (folder / name).mkdir()
            for index in range(2):
                pixels = np.random.default_rng(index).integers(0, high, (40, 40, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / name / f'{index}.png'), pixels if name == 'images' else pixels[..., 0])
        (folder / 'config.py').write_text(text.replace('{folder}', str(folder)))
        if host == 'mmseg':
            mae_file(folder / 'anchor.pth')
        else:
            torch.manual_seed(0)
            swin = MODELS.build(dict(
                type='mmpretrain.SimMIMSwinTransformer', img_size=64, stage_cfgs=dict(block_cfgs=dict(window_size=2)),
                arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])))
            torch.save({'state_dict': {f'backbone.{name}': tensor for name, tensor in swin.state_dict().items()}},
                       folder / 'anchor.pth')
        processes[host] = folder, subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', SCRIPT, str(folder / 'config.py'), host], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return {host: (folder, process.communicate()[0], process.returncode)
            for host, (folder, process) in processes.items()}


@pytest.mark.parametrize('host', ['mmpretrain', 'mmseg'])
def test_a_plain_config_of_a_host_uses_anchor_and_constructor_with_nothing_imported(plain_runs, host):
    folder, output, status = plain_runs[host]
    assert status == 0, output
    lines = next((folder / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    assert len(logged) == 2
    assert all(line['loss_anchor'] > 0 for line in logged)
    assert 'stage 2: lr 0.001' in output
