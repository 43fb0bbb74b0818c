"""MIM-Refiner on Fashion-MNIST, stage ii: encoder and heads together.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.methods, or tools/train.py experiments/methods/configs/refined.py after
          experiments/demo/configs/mae.py and experiments/methods/configs/heads.py
Devices:  two CPU cores, twelve minutes
Expected: python -m experiments.methods measures it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
    '_base_/refiner.py',
]

max_epochs = 1
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/heads/epoch_1.pth', parts=['heads']))
train_dataloader = dict(dataset=dict(indices=60000))

model = dict(
    head=dict(queue=dict(num_neighbors=5)))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'heads': dict(decay_mult=1e-5 / 0.05),
        }))
param_scheduler = dict(warmup=0.125, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
