"""Continuing from public weights by MIM-Refiner, stage ii: encoder and heads, at rates that fall from block to block.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.continuing, or after it fetched weights and images
          tools/train.py experiments/continuing/configs/refined.py
Devices:  one CPU core, minutes
Results:  docs/continue.md
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/cifar10.py',
    '_base_/refiner.py',
]

default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/heads/epoch_1.pth', parts=['heads']),
    logger=dict(type='LoggerHook', interval=5))
model = dict(head=dict(queue=dict(num_neighbors=5)))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.65))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
