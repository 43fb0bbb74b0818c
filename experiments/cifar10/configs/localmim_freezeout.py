"""LocalMIM with FreezeOut on CIFAR-10: cubic, scaled rates.

Paper:    Topcuoglu and Akagündüz (arXiv 2312.02194); Brock et al., FreezeOut (arXiv 1706.04983)
Command:  tools/train.py experiments/cifar10/configs/localmim_freezeout.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/localmim.py',
]

max_epochs = _base_.epochs
t0 = 0.65  # before the cube: the stem trains for t0³ = 27.5 % of the run

train_dataloader = dict(dataset=dict(pipeline=_base_.plain_image))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.mim_lr, betas=(0.9, 0.95), weight_decay=0.05),
    # decoders and tap norms follow the global cosine until their block freezes
    paramwise_cfg=dict(
        by_depth=True, custom_keys={'neck.': dict(global_rate=True), 'tap_norms.': dict(global_rate=True)}))
param_scheduler = dict(type='mm_graft.FreezeOutLR', t0=t0, schedule='cubic', lr_scaling='scaled', warmup=_base_.warmup)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
train_cfg = dict(max_epochs=max_epochs)
