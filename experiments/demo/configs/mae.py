"""The demo, step i: MAE on 10,000 images of Fashion-MNIST.

Command:  make demo, or tools/train.py experiments/demo/configs/mae.py after it fetched the data
Devices:  two CPU cores, about a minute
"""

_base_ = ['../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py', '_base_/fashion_mnist.py']

max_epochs = 12
arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)

model = dict(
    type='MAE',
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[73.0], std=[90.0]),
    backbone=dict(
        type='mm_graft.MAEViT', arch=arch, img_size=28, patch_size=4, patch_cfg=dict(in_channels=1), mask_ratio=0.75),
    neck=dict(
        type='mm_graft.MAEPretrainDecoder',
        grid=7,
        patch_size=4,
        in_chans=1,
        embed_dim=96,
        decoder_embed_dim=64,
        decoder_depth=1,
        decoder_num_heads=2),
    head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=False,  # most patches are empty: standardized, they would be noise
        patch_size=4,
        in_channels=1,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ])

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=max_epochs)
