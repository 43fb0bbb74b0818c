"""DINO, ViT-S/16, from random weights: the authors' run on one node.

Paper:    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294)
Command:  tools/dist_train.sh configs/dino/dino_vit-small-p16_8xb64-amp-coslr-100e_in1k.py 8
Devices:  8 GPUs, 64 images each, as in the authors' README
Expected: kNN 69.3, linear 74.0 (facebookresearch/dino@7c446df, README; by their evaluation, of the teacher); not run
          here
Note:     eight local views of 5 to 40 % of the image, and global views of at least 40 %, as in the code's defaults
"""

_base_ = [
    '../_base_/dino_vit.py',
    '../_base_/imagenet_multi_crop.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 100
warmup_epochs = 10
batch_size = 512
base_lr = 5e-4  # per 256 images
lr = base_lr * batch_size / 256

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',  # learns its position embedding, as theirs does
        arch='deit-small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='raw'))
global_crop = dict(type='mm_graft.FastCrop', scale=224, crop_ratio_range=(0.4, 1.0), interpolation='bicubic')
local_crop = dict(type='mm_graft.FastCrop', scale=96, crop_ratio_range=(0.05, 0.4), interpolation='bicubic')
train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(
        type='MultiView',
        num_views=[1, 1, 8],
        transforms=[
            [global_crop, _base_.first_view[1]],
            [global_crop, _base_.second_view[1]],
            [local_crop, _base_.local_view[1]],
        ]),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=lr, weight_decay=0.04),
    clip_grad=dict(max_norm=3.0))
param_scheduler = [
    dict(
        type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=1e-6 / lr, convert_to_iter_based=True),
    dict(type='mm_graft.CosineWeightDecay', end_ratio=10.0, convert_to_iter_based=True),  # 0.04 → 0.4
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
