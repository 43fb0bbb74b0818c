"""ImageNet-1k, a weak and a strong view of the same crop and flip (TencentARC/ConMIM@4263955)."""

data_root = 'data/imagenet/'
data_preprocessor = dict(
    type='mm_graft.ChannelPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    non_blocking=True)  # bytes go to the device, which makes them numbers and normalizes them

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
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    # both views share flip and crop, in the authors' order
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='MultiView', num_views=[1, 1], transforms=[[], strong_view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageNet', data_root=data_root, split='train', pipeline=train_pipeline))
