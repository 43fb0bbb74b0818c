"""MIM: MAE on CIFAR-10.

Paper:    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/train.py experiments/cifar10/configs/mae.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/mae.py',
]

max_epochs = _base_.epochs

train_dataloader = dict(dataset=dict(pipeline=_base_.plain_image))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.mim_lr, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
