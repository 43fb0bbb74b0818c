"""Joint MIM and CL: MAE and MoCo v3 on one encoder at once, on CIFAR-10.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.2 and Table 1
Command:  tools/train.py experiments/cifar10/configs/joint.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Note:     each image comes three times: two views, and once as MAE takes it
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '_base_/data.py',
    '_base_/mocov3.py',
]

max_epochs = _base_.epochs
decoder_width = 48
decoder_depth = 1

xavier = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
]
model = dict(
    _delete_=True,
    type='mm_graft.JointMIMCL',
    contrast_weight=1.0,
    pixel_weight=1.0,
    momentum=0.99,
    data_preprocessor={**_base_.views, 'type': 'mm_graft.ViewsAndImagePreprocessor', 'image_size': (32, 32)},
    backbone=dict(
        type='mm_graft.MAEViT', arch=_base_.arch, img_size=32, patch_size=4, mask_ratio=0.75, out_type='cls_token',
        init_cfg=xavier),
    neck=_base_.model.neck,
    head=_base_.model.head,
    decoder=dict(
        type='mm_graft.MAEPretrainDecoder',
        grid=8,
        patch_size=4,
        embed_dim=_base_.width,
        decoder_embed_dim=decoder_width,
        decoder_depth=decoder_depth,
        decoder_num_heads=4,
        init_cfg=xavier),
    pixel_head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=False,
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=_base_.contrastive_lr, weight_decay=0.1))
param_scheduler = dict(warmup=_base_.warmup)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.GradientConflictHook', losses=['loss_pixels', 'loss_contrast'], interval=100)]
