"""ConMIM on Fashion-MNIST.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616)
Command:  python -m experiments.methods --rows conmim, or
          tools/train.py experiments/methods/configs/conmim.py
Devices:  one CPU core, five minutes an epoch
Note:     both views are the whole image, each with a brightness and contrast of its own
Expected: python -m experiments.methods measures it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
]

max_epochs = 4
train_dataloader = dict(dataset=dict(indices=60000))

model = dict(
    type='mm_graft.ConMIM',
    data_preprocessor=dict(
        type='mm_graft.TwoViewPreprocessor',
        mean=[73.0],
        std=[90.0],
        size=(28, 28),
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        flip_probability=0.0,
        jitter=(0.4, 0.4, 0.0, 0.0),
        blur_probability=(0.0, 0.0),
        solarize_probability=(0.0, 0.0)),
    backbone=dict(
        type='mm_graft.ConMIMViT',
        arch=dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384),
        img_size=28,
        patch_size=4,
        in_channels=1,
        layer_scale_init_value=0.1),
    neck=dict(
        type='NonLinearNeck',
        in_channels=96,
        hid_channels=256,
        out_channels=64,
        num_layers=3,
        with_avg_pool=False,
        with_last_bn_affine=False,
        norm_cfg=dict(type='BN1d')),
    contrast=dict(type='mm_graft.DenoisingContrastLoss', temperature=0.1),
    mask_generator=dict(type='mm_graft.RandomCellMask', img_size=28, patch_size=4, cell_size=4, ratio=0.75),
    teacher=dict(momentum=0.996, end_momentum=1.0))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0, optional=True))))
param_scheduler = dict(warmup=0.5)
train_cfg = dict(max_epochs=max_epochs)
