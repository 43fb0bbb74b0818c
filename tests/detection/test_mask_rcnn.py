"""Mask R-CNN on drawn pictures, from a pre-trained file to boxes and masks; in an environment with mmdetection."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

pytest.importorskip('mmdet', reason='mmdetection is not installed; make test-detection')

from mmengine.registry import HOOKS, MODELS, init_default_scope

from mm_graft.datasets.masks_to_coco import masks_to_coco
from tests.tiny import mae_file

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs' / 'detection').glob('*.py'))
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SMALL = {
    'model.backbone.img_size': 64, 'model.backbone.patch_size': 8,
    'model.backbone.window_size': 4, 'model.backbone.out_indices': [0, 1, 2, 3], 'model.backbone.global_blocks': [1, 3],
    'model.neck.0.embed_dim': 16, 'model.neck.1.in_channels': [16] * 4,
    'model.rpn_head.anchor_generator.strides': [2, 4, 8, 16, 32],
    'model.roi_head.bbox_roi_extractor.featmap_strides': [2, 4, 8, 16],
    'model.roi_head.mask_roi_extractor.featmap_strides': [2, 4, 8, 16],
    'model.train_cfg.rpn_proposal.nms_pre': 100, 'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.test_cfg.rpn.nms_pre': 100, 'model.test_cfg.rpn.max_per_img': 50,
    'model.data_preprocessor.batch_augments.0.size': (64, 64), 'model.roi_head.bbox_head.num_classes': 2,
    'model.roi_head.mask_head.num_classes': 2, 'model.roi_head.bbox_head.fc_out_channels': 32}


def small(path, **options):
    cfg = Config.fromfile(path)
    cfg.model.backbone.arch = ARCH
    cfg.merge_from_dict({**SMALL, **options})
    return cfg


def draw(folder, count, seed):
    """Pictures of 64×64 with a bright square (class 1) and a dark disc (class 2) on gray noise, and COCO's JSON."""
    rng, pairs = np.random.default_rng(seed), {}
    (folder / 'images').mkdir(parents=True)
    (folder / 'labels').mkdir()
    y, x = np.mgrid[:64, :64]
    for index in range(count):
        labels = np.zeros((64, 64), np.uint8)
        top, left = rng.integers(2, 20, 2)
        labels[top:top + 18, left:left + 18] = 1
        labels[(y - rng.integers(45, 52)) ** 2 + (x - rng.integers(14, 50)) ** 2 < 64] = 2
        picture = rng.integers(100, 140, (64, 64, 3))
        picture[labels == 1] = 230
        picture[labels == 2] = 10
        Image.fromarray(picture.astype(np.uint8)).save(folder / 'images' / f'{index}.png')
        Image.fromarray(labels).save(folder / 'labels' / f'{index}.png')
        pairs[f'{index}.png'] = folder / 'labels' / f'{index}.png'
    (folder / 'coco.json').write_text(json.dumps(masks_to_coco(pairs, {'square': 1, 'disc': 2})))
    return folder


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_loads_and_learns_in_every_part(path, tmp_path):
    init_default_scope('mmdet')
    cfg = small(path)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    if cfg.model.backbone.type == 'mm_graft.WindowedViT':
        hook = HOOKS.build({**cfg.custom_hooks[0], 'checkpoint': mae_file(tmp_path / 'mae.pth')})
        before = model.backbone.layers[0].attn.qkv.weight.clone()
        hook.before_train(type('Runner', (), dict(iter=0, model=model))())
        assert not torch.equal(model.backbone.layers[0].attn.qkv.weight, before)
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert [tuple(level.shape[1:]) for level in maps] == [(256, 32, 32), (256, 16, 16), (256, 8, 8), (256, 4, 4),
                                                         (256, 2, 2)]
    sum(level.square().sum() for level in maps).backward()
    for name in ('backbone.layers.0.attn.qkv.weight', 'backbone.pos_embed', 'backbone.layers.3.ln1.weight'):
        assert model.get_parameter(name).grad.any(), name
    assert model.backbone.cls_token.grad is None


def test_a_tiny_set_is_trained_evaluated_and_gone_on_with(tmp_path):
    train, val = draw(tmp_path / 'train', 12, 0), draw(tmp_path / 'val', 4, 1)
    mae_file(tmp_path / 'mae.pth')
    cfg = small(CONFIGS[-1], **{'default_hooks.init.checkpoint': str(tmp_path / 'mae.pth')})
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    for loader, folder in (('train_dataloader', train), ('val_dataloader', val), ('test_dataloader', val)):
        cfg[loader].update(num_workers=0, persistent_workers=False, batch_size=4 if folder is train else 1)
        cfg[loader].dataset.update(
            data_root=str(folder), ann_file='coco.json', data_prefix=dict(img='images/'), filter_cfg=None,
            metainfo=dict(classes=('square', 'disc')),
            pipeline=[steps[0], dict(type='Resize', scale=(64, 64), keep_ratio=True), steps[1], dict(
                type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))])
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(val / 'coco.json')
    cfg.optim_wrapper.optimizer.lr = 2e-3
    cfg.train_cfg.update(max_epochs=3, val_interval=3)
    cfg.param_scheduler.warmup = 1
    cfg.default_hooks.logger.interval = 1
    cfg.auto_scale_lr.base_batch_size = 4
    cfg.dump(tmp_path / 'config.py')
    lines = [run('train', tmp_path / 'config.py', '--work-dir', tmp_path / 'run', *extra)
             for extra in ([], ['--resume', '--cfg-options', 'train_cfg.max_epochs=4', 'train_cfg.val_interval=4'])]
    assert all('coco/bbox_mAP' in text and 'coco/segm_mAP' in text for text in lines), lines[0][-2000:]
    tested = run('test', tmp_path / 'config.py', tmp_path / 'run' / 'epoch_4.pth', '--work-dir', tmp_path / 'test')
    assert 'coco/segm_mAP' in tested


def run(tool, *args):
    done = subprocess.run([sys.executable, '-W', 'ignore', ROOT / 'tools' / f'{tool}.py', *map(str, args)],
                          capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr
