"""MoCo v3 around a ViT-S/14 of the DINOv2 family, views of 42 pixels."""

image_size = 42
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
data_preprocessor = dict(
    type='mm_graft.TwoViewPreprocessor', mean=mean, std=std, to_rgb=True, size=(image_size, image_size),
    scale=(0.3, 1.0), blur_probability=(0.2, 0.0))  # of 32 pixels little is left after a blur

temperature = 0.2
width, hidden, out = 384, 1024, 128
model = dict(
    type='mm_graft.GraftedMoCoV3',
    momentum=0.99,
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mm_graft.GraftViT', arch='deit-small', img_size=image_size, patch_size=14, layer_scale_init_value=1e-5,
        stop_grad_conv1=False),
    neck=dict(
        type='NonLinearNeck', in_channels=width, hid_channels=hidden, out_channels=out, num_layers=3, with_bias=False,
        with_last_bn=True, with_last_bn_affine=False, with_last_bias=False, with_avg_pool=False),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(
            type='NonLinearNeck', in_channels=out, hid_channels=hidden, out_channels=out, num_layers=2,
            with_bias=False, with_last_bn=True, with_last_bn_affine=False, with_last_bias=False, with_avg_pool=False),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature))

