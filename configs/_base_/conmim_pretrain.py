"""ConMIM on ImageNet-1k: networks, paired views, optimiser (TencentARC/ConMIM@4263955; paper, Table 11)."""

data_root = 'data/imagenet/'
data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

strong_view = [
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, backend='pillow')],
        prob=0.8),
    # not in the paper's Table 11, but in the authors' code
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989)),
    dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # both views share flip and crop, in the authors' order
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='MultiView', num_views=[1, 1], transforms=[[], strong_view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageNet', data_root=data_root, split='train', pipeline=train_pipeline))

model = dict(
    type='mm_graft.ConMIM',
    backbone=dict(type='mm_graft.ConMIMViT', arch='base', img_size=224, patch_size=16, layer_scale_init_value=0.1),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_avg_pool=False,
        with_last_bn_affine=False,
        norm_cfg=dict(type='BN1d'),  # statistics of one device, as the authors
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02),
            dict(type='Constant', layer='_BatchNorm', val=1),
        ]),
    contrast=dict(type='mm_graft.DenoisingContrastLoss', temperature=0.1),
    mask_generator=dict(type='mm_graft.RandomCellMask', img_size=224, patch_size=16, cell_size=32, ratio=0.75),
    teacher=dict(momentum=0.996, end_momentum=1.0))

# The rate is absolute, not scaled by the batch. The host's warm-up cannot start at 0: 1e-13 of the rate does.
optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    # mask token and relative positions are decayed; biases, norms, layer scales and the class token are not
    paramwise_cfg=dict(stage_lr_mult=[1.0], custom_keys=dict(cls_token=dict(decay_mult=0.0))))
