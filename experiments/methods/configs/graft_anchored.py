"""The graft on Fashion-MNIST, its lower four blocks pulled towards MAE's weights.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §A.5
Command:  python -m experiments.methods --rows graft_anchored, or
          tools/train.py experiments/methods/configs/graft_anchored.py
Devices:  one CPU core, nine minutes
Expected: python -m experiments.methods measures it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
    '../../demo/configs/_base_/mocov3.py',
]

max_epochs = 2
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/demo/mae/epoch_12.pth'))
train_dataloader = dict(dataset=dict(indices=60000))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1.5e-3, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 0.1, 1.0]))
param_scheduler = dict(warmup=0.25)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='mm_graft.StageLRLoggerHook'),
    dict(type='mm_graft.WeightAnchor', weight=1e-4, max_depth=4),
]
