"""MoCo v3's networks around a ViT-B: 3-layer projector, 2-layer predictor (facebookresearch/moco-v3@c349e6e)."""

temperature = 0.2
model = dict(
    type='mm_graft.GraftedMoCoV3',
    momentum=0.99,
    backbone=dict(type='mm_graft.GraftViT', arch='base', img_size=224, patch_size=16),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            num_layers=2,
            with_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_last_bias=False,
            with_avg_pool=False),
        # 2τ, as in the paper's loss
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature))
