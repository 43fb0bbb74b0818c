"""Drawn pictures in COCO's format, configs that are small enough for them, and the commands that run these."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mm_graft.datasets.masks_to_coco import masks_to_coco

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / 'configs' / 'detection').glob('*.py'))
PLAIN = ROOT / 'configs' / 'detection' / 'mask-rcnn_vit-base-p16_8xb8-25e_coco.py'
CLASSES = ('square', 'disc')
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SMALL = {
    'model.backbone.img_size': 64, 'model.backbone.out_indices': [0, 1, 2, 3],
    'model.rpn_head.anchor_generator.strides': [2, 4, 8, 16, 32],
    'model.roi_head.bbox_roi_extractor.featmap_strides': [2, 4, 8, 16],
    'model.roi_head.mask_roi_extractor.featmap_strides': [2, 4, 8, 16],
    'model.train_cfg.rpn_proposal.nms_pre': 100, 'model.train_cfg.rpn_proposal.max_per_img': 50,
    'model.test_cfg.rpn.nms_pre': 100, 'model.test_cfg.rpn.max_per_img': 50,
    'model.data_preprocessor.batch_augments.0.size': (64, 64), 'model.roi_head.bbox_head.num_classes': 2,
    'model.roi_head.mask_head.num_classes': 2, 'model.roi_head.bbox_head.fc_out_channels': 32}


def small(path: Path, **options) -> Config:
    """A config of COCO's, with a tiny encoder that fits ``tests.tiny.mae_file``."""
    cfg = Config.fromfile(path)
    backbone, neck = cfg.model.backbone, cfg.model.neck
    if backbone.type == 'mm_graft.TimmViT':
        backbone.update(patch_size=8, embed_dim=16, depth=4, num_heads=2)
    else:
        backbone.update(patch_size=8, arch=ARCH, window_size=4, global_blocks=[1, 3])
    if isinstance(neck, list):
        neck[0].embed_dim, neck[1].in_channels = 16, [16] * 4
    else:
        neck.in_channels = 16
    cfg.merge_from_dict({**SMALL, **options})
    return cfg


def draw(folder: Path, count: int, seed: int) -> Path:
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


def on_drawn(cfg: Config, train: Path, val: Path, epochs: int, start: str | None) -> Config:
    """The config with drawn pictures in the place of COCO's, from a checkpoint on."""
    for loader, folder in (('train_dataloader', train), ('val_dataloader', val), ('test_dataloader', val)):
        cfg[loader].update(num_workers=0, persistent_workers=False, batch_size=4 if folder is train else 1)
        cfg[loader].dataset.update(
            data_root=str(folder), ann_file='coco.json', data_prefix=dict(img='images/'), filter_cfg=None,
            metainfo=dict(classes=CLASSES, palette=[(0, 200, 255), (255, 80, 0)]))
        for step in cfg[loader].dataset.pipeline:
            step.update({'RandomResize': dict(scale=(64, 64), ratio_range=(0.8, 1.2)), 'Resize': dict(scale=(64, 64)),
                         'RandomCrop': dict(crop_size=(64, 64), crop_type='absolute')}.get(step.type, {}))
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(val / 'coco.json')
    cfg.optim_wrapper.optimizer.lr = 2e-3
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.init = dict(type='mm_graft.LoadBackboneHook', checkpoint=start, resize=True)
    cfg.auto_scale_lr.base_batch_size = 4
    return cfg


def run(tool: str, *args: object, status: int = 0, before: str = '', launcher: tuple[str, ...] = ()) -> str:
    """What a command prints; ``before`` is Python that runs in its process first."""
    script = (f'import sys; sys.path.insert(0, {str(ROOT)!r}); {before}\n'
              f'from mm_graft.commands.main import main; sys.argv[0] = "mm_graft"; main({tool!r})')
    words = [*launcher, str(ROOT / 'tools' / f'{tool}.py')] if launcher else ['-c', script]
    done = subprocess.run([sys.executable, '-W', 'ignore', *words, *map(str, args)], capture_output=True, text=True,
                          timeout=500, check=False, start_new_session=True,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''})
    assert done.returncode == status, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr
