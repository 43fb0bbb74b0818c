"""LocalMIM with FreezeOut on Fashion-MNIST: cubic, scaled rates.

Paper:    Topcuoglu and Akagündüz (arXiv 2312.02194); Brock et al., FreezeOut (arXiv 1706.04983)
Command:  python -m experiments.methods --rows localmim_freezeout, or
          tools/train.py experiments/methods/configs/localmim_freezeout.py
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
    optimizer=dict(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    # decoders and tap norms follow the global cosine until their block freezes
    paramwise_cfg=dict(
        by_depth=True, custom_keys={'neck.': dict(global_rate=True), 'tap_norms.': dict(global_rate=True)}))
param_scheduler = dict(type='mm_graft.FreezeOutLR', t0=0.65, schedule='cubic', lr_scaling='scaled', warmup=1)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
train_cfg = dict(max_epochs=max_epochs)
