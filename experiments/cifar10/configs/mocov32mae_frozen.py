"""CL→MIM grafting: MAE on top of MoCo v3, the lower two of three stages frozen, on CIFAR-10.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.3 and Table 1
Command:  tools/train.py experiments/cifar10/configs/mocov32mae_frozen.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Needs:    experiments/cifar10/configs/mocov3.py, trained for half of its epochs, or `--init FILE`
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/mae.py',
]

max_epochs = _base_.epochs // 2  # the other half was MoCo v3's
stage_lr_mult = [0.0, 0.0, 1.0]  # 0 freezes
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mocov3/epoch_3.pth'))

train_dataloader = dict(dataset=dict(pipeline=_base_.plain_image))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.mim_lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    # position table and all: MoCo v3's is the transpose of MAE's, and the blocks know no other
    dict(type='mm_graft.StageLRLoggerHook'),
]
