"""LocalMIM on Fashion-MNIST.

Paper:    Wang et al., LocalMIM, CVPR 2023 (arXiv 2303.05251)
Command:  python -m experiments.methods --rows localmim, or
          tools/train.py experiments/methods/configs/localmim.py
Devices:  one CPU core, two minutes an epoch
Expected: python -m experiments.methods measures it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
    '_base_/localmim.py',
]

max_epochs = 8
train_dataloader = dict(dataset=dict(indices=60000))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=max_epochs)
