"""MIM-Refiner on Fashion-MNIST, stage i: the heads alone, on the frozen encoder of MAE.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.methods, or tools/train.py experiments/methods/configs/heads.py after
          experiments/demo/configs/mae.py
Devices:  one CPU core, four minutes
Expected: nothing of its own; python -m experiments.methods measures what stage ii makes of it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
    '_base_/refiner.py',
]

max_epochs = 1
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/demo/mae/epoch_12.pth'))
train_dataloader = dict(dataset=dict(indices=60000))

model = dict(train_encoder=False)

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-5))
param_scheduler = dict(warmup=0.4, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
