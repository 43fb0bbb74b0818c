"""ConMIM on CIFAR-10.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616)
Command:  tools/train.py experiments/cifar10/configs/conmim.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = ['../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py', '_base_/data.py']

max_epochs = _base_.epochs
width = 64
num_layers = 6
num_heads = 2
hidden = 256
projected = 64

strong_view = [
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, backend='pillow')],
        prob=0.8),
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989)),
    dict(type='Solarize', thr=128, prob=0.2),
]
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        # both views share flip and crop
        dict(type='RandomFlip', prob=0.5),
        dict(
            type='RandomResizedCrop',
            scale=32,
            crop_ratio_range=(0.2, 1.0),
            backend='pillow',
            interpolation='bicubic'),
        dict(type='MultiView', num_views=[1, 1], transforms=[[], strong_view]),
        dict(type='PackInputs'),
    ]))

model = dict(
    type='mm_graft.ConMIM',
    backbone=dict(
        type='mm_graft.ConMIMViT',
        arch=dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width),
        img_size=32,
        patch_size=4,
        layer_scale_init_value=0.1),
    neck=dict(
        type='NonLinearNeck',
        in_channels=width,
        hid_channels=hidden,
        out_channels=projected,
        num_layers=3,
        with_avg_pool=False,
        with_last_bn_affine=False,
        norm_cfg=dict(type='BN1d')),
    contrast=dict(type='mm_graft.DenoisingContrastLoss', temperature=0.1),
    mask_generator=dict(type='mm_graft.RandomCellMask', img_size=32, patch_size=4, cell_size=8, ratio=0.75),
    teacher=dict(momentum=0.996, end_momentum=1.0))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.mim_lr, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0, optional=True))))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
