"""UperNet on CamVid, half size, 240 × 180, with a small ViT: from MAE's checkpoint, or from random weights.

Paper:    UperNet is Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018 (arXiv 1807.10221)
Command:  tools/train.py experiments/camvid/configs/vit-tiny_upernet_camvid-half.py
          from random weights: --init none
Devices:  one CPU core, minutes; see docs/segmentation.md for what came out
Data:     CamVid as data/camvid/{img_dir,ann_dir}/{train,val,test}, masks 0–10 and 11 = void
"""

_base_ = ['_base_/upernet.py']

max_iters = 300
warmup_iters = 30
scale = (240, 180)
crop_size = (112, 112)
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae_camvid-half/epoch_100.pth', resize=True))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size[0]),
    test_cfg=dict(crop_size=crop_size, stride=(75, 75)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
randomness = dict(seed=0)
