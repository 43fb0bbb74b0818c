"""MAE on CamVid's own training images, without their masks, for a ViT that a small machine can train."""

image_size = 112
patch_size = 8
arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)

data_preprocessor = dict(
    type='SelfSupDataPreprocessor', mean=[105.1, 108.5, 110.4], std=[77.0, 78.1, 77.0], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=image_size, crop_ratio_range=(0.3, 1.0), interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root='data/camvid',
        data_prefix='img_dir/train',
        with_label=False,
        pipeline=train_pipeline))

model = dict(
    type='MAE',
    backbone=dict(type='mm_graft.MAEViT', arch=arch, img_size=image_size, patch_size=patch_size, mask_ratio=0.75),
    neck=dict(
        type='mm_graft.MAEPretrainDecoder',
        grid=image_size // patch_size,
        patch_size=patch_size,
        embed_dim=96,
        decoder_embed_dim=48,
        decoder_depth=1,
        decoder_num_heads=2),
    head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=True,
        patch_size=patch_size,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ])
