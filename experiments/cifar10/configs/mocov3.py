"""CL: MoCo v3 on CIFAR-10.

Paper:    Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.02057)
Command:  tools/train.py experiments/cifar10/configs/mocov3.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/mocov3.py',
]

max_epochs = _base_.epochs

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.contrastive_lr, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[1.0, 1.0, 1.0]))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
