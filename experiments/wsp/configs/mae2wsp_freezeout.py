"""Weak supervision grafted on MAE with FreezeOut, Fashion-MNIST with noisy hashtags.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Command:  tools/train.py experiments/wsp/configs/mae2wsp_freezeout.py
Needs:    data/fashion_mnist_tags (python -m experiments.wsp --prepare), and experiments/demo/configs/mae.py run before
Devices:  one CPU core, a minute
Results:  docs/weak_supervision.md
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/tagged_fashion_mnist.py',
]

max_epochs = 4
t0 = 0.65  # before the cube
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/demo/mae/epoch_12.pth'))


optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 0.1, 1.0], by_depth=True))
param_scheduler = dict(type='mm_graft.FreezeOutLR', t0=t0, schedule='cubic', lr_scaling='unscaled', warmup=0.2)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
