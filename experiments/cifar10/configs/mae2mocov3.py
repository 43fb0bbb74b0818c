"""The graft: MoCo v3 on top of MAE, lower stages at a lower learning rate, on CIFAR-10.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.4
Command:  tools/train.py experiments/cifar10/configs/mae2mocov3.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Needs:    experiments/cifar10/configs/mae.py, trained for half of its epochs, or `--init FILE`
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/mocov3.py',
]

max_epochs = _base_.epochs // 2  # the other half was MAE's
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae/epoch_3.pth'))


optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.contrastive_lr, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
