"""MoCo v3 around a ViT of 6 blocks of width 96 on 28×28 images: small enough for two CPU cores."""

arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
data_preprocessor = dict(
    type='mm_graft.TwoViewPreprocessor',
    mean=[73.0],
    std=[90.0],
    size=(20, 20),  # of crops that keep 15 to 28 pixels a side
    scale=(0.3, 1.0),
    jitter=(0.4, 0.4, 0.0, 0.0),
    blur_probability=(0.0, 0.0),
    solarize_probability=(0.0, 0.0))

temperature = 0.2
model = dict(
    type='mm_graft.GraftedMoCoV3',
    data_preprocessor=data_preprocessor,
    backbone=dict(type='mm_graft.GraftViT', arch=arch, img_size=28, patch_size=4, in_channels=1),
    neck=dict(
        type='NonLinearNeck',
        in_channels=96,
        hid_channels=256,
        out_channels=64,
        num_layers=3,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d')),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=64,
            hid_channels=256,
            out_channels=64,
            num_layers=2,
            with_last_bn_affine=False,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d')),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature))
