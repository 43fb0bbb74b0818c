"""Joint MIM and CL: MAE and MoCo v3 on one encoder at once, on Fashion-MNIST.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.2 and Table 1
Command:  python -m experiments.methods --rows joint, or
          tools/train.py experiments/methods/configs/joint.py
Devices:  one CPU core, seven minutes an epoch
Note:     each image comes three times: two views, and once as MAE takes it
Expected: python -m experiments.methods measures it
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
    '../../demo/configs/_base_/mocov3.py',
]

max_epochs = 3
train_dataloader = dict(dataset=dict(indices=60000))

xavier = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
]
model = dict(
    _delete_=True,
    type='mm_graft.JointMIMCL',
    data_preprocessor={
        **_base_.data_preprocessor, 'type': 'mm_graft.ViewsAndImagePreprocessor', 'image_size': (28, 28),
        'image_scale': (1.0, 1.0)},
    backbone=dict(
        type='mm_graft.MAEViT', arch=_base_.arch, img_size=28, patch_size=4, patch_cfg=dict(in_channels=1),
        mask_ratio=0.75, out_type='cls_token', init_cfg=xavier),
    neck=_base_.model.neck,
    head=_base_.model.head,
    decoder=dict(
        type='mm_graft.MAEPretrainDecoder', grid=7, patch_size=4, in_chans=1, embed_dim=96, decoder_embed_dim=64,
        decoder_depth=1, decoder_num_heads=2, init_cfg=xavier),
    pixel_head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=False,
        patch_size=4,
        in_channels=1,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')))

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1.5e-3, weight_decay=0.1))
param_scheduler = dict(warmup=0.375)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.GradientConflictHook', losses=['loss_pixels', 'loss_contrast'], interval=100)]
