"""Joint MIM and CL, ViT-B/16: MAE and MoCo v3 on one encoder at once, the multi-task baseline of layer grafting.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.2 and Table 1
Command:  tools/dist_train.sh configs/graft/vit-b_joint-mae-mocov3.py 64
Devices:  not reported; as for configs/graft/vit-b_mae2mocov3.py, each image three times
Expected: linear 68.4, 1 % 47.6, fine-tuning 81.0 (paper, Table 1, by its protocols); not run here
Note:     the paper adds the losses and trains for 300 epochs; the rest of the recipe is not published and is MoCo v3's
          here. The conflict of Figures 1 and 8 is logged; mm_graft analyze conflict draws it, of the epochs that stay
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # per 256 images
contrast_weight = 1.0
pixel_weight = 1.0

# as MAE starts: Xavier for all linears
xavier = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
]
model = dict(
    _delete_=True,
    type='mm_graft.JointMIMCL',
    contrast_weight=contrast_weight,
    pixel_weight=pixel_weight,
    momentum=0.99,
    backbone=dict(
        type='mm_graft.MAEViT', arch='base', img_size=224, patch_size=16, mask_ratio=0.75, out_type='cls_token',
        init_cfg=xavier),
    neck={{_base_.model.neck}},
    head={{_base_.model.head}},
    decoder=dict(
        type='mm_graft.MAEPretrainDecoder',
        grid=14,
        patch_size=16,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
        init_cfg=xavier),
    pixel_head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')))

# beside the two views, the image as MAE has it: one crop and flip
plain_image = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.2, 1.0),
        backend='pillow',
        interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
]
train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(
        type='MultiView',
        num_views=[1, 1, 1],
        transforms=[{{_base_.first_view}}, {{_base_.second_view}}, plain_image]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(keep=[100, 200, 300]))  # the panels of Figures 1 and 8
custom_hooks = [
    dict(type='mm_graft.GradientConflictHook', losses=['loss_pixels', 'loss_contrast'], interval=100),
]
auto_scale_lr = dict(base_batch_size=batch_size)
