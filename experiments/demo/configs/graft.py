"""The demo, step ii: MoCo v3 on top of the demo's MAE, lower stages at a lower learning rate.

Command:  make demo, or tools/train.py experiments/demo/configs/graft.py after experiments/demo/configs/mae.py
Devices:  two CPU cores, a few minutes
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/fashion_mnist.py',
    '_base_/mocov3.py',
]

max_epochs = 4
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/demo/mae/epoch_12.pth'))


optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1.5e-3, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 0.1, 1.0]))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
