"""MoCo v3 around a ViT with patches of 4 on 32×32 images: 6 blocks of width 64."""

width = 64
num_layers = 6
num_heads = 2
hidden = 256
projected = 64
view_size = 20

arch = dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width)
# both views are made on the device; images of 32 pixels are not blurred
views = dict(
    type='mm_graft.TwoViewPreprocessor',
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7],
    to_rgb=True,
    size=(view_size, view_size),
    scale=(0.2, 1.0),
    jitter=(0.4, 0.4, 0.2, 0.1),
    blur_probability=(0.0, 0.0),
    solarize_probability=(0.0, 0.2))

temperature = 0.2
mlp = dict(
    type='NonLinearNeck',
    hid_channels=hidden,
    out_channels=projected,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d'))
model = dict(
    type='mm_graft.GraftedMoCoV3',
    momentum=0.99,
    data_preprocessor=views,
    backbone=dict(type='mm_graft.GraftViT', arch=arch, img_size=32, patch_size=4),
    neck=dict(in_channels=width, num_layers=3, **mlp),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(in_channels=projected, num_layers=2, **mlp),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature))
