"""UperNet on CamVid, full size, 480 × 360, with a small ViT: from MAE's checkpoint, or from random weights.

Paper:    UperNet is Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018 (arXiv 1807.10221)
Command:  tools/train.py experiments/camvid/configs/vit-tiny_upernet_camvid-full.py
          from random weights: --init none
Devices:  one GPU; not run here
Data:     CamVid as data/camvid-full/{img_dir,ann_dir}/{train,val,test}, masks 0–10 and 11 = void
Needs:    `checkpoint`, whose positions are resized; 20000 iterations are for a GPU
"""

_base_ = ['_base_/upernet.py']

max_iters = 20000
warmup_iters = 500
scale = (480, 360)
crop_size = (224, 224)
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
data = dict(data_root='data/camvid-full', img_suffix='.png')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **data))
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size[0]),
    test_cfg=dict(crop_size=crop_size, stride=(149, 149)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
randomness = dict(seed=0)
