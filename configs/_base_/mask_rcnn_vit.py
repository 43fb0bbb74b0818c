"""Mask R-CNN on a plain ViT for COCO at 1024 pixels, 25 epochs: the setup of Li et al., 2021 (arXiv 2111.11429).

Model, data and runtime are mmdet's own where it has them. The paper that ConMIM follows does not print the norm of the
pyramid (SyncBN here), the window (14, the grid of pre-training), the layer decay and the warm-up: those are ours.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/default_runtime.py'
]
# stands in for mmcv's compiled operators where there are none; does nothing where there are
custom_imports = dict(imports=['mm_graft.host.mmcv_operators', 'mmdet.models'], allow_failed_imports=False)

max_epochs = 25
warmup_epochs = 1
image_size = (1024, 1024)
norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    data_preprocessor=dict(batch_augments=[
        dict(type='BatchFixedSizePad', size=image_size, img_pad_value=0, pad_mask=True, mask_pad_value=0, pad_seg=False)
    ]),
    backbone=dict(
        _delete_=True,
        type='mm_graft.WindowedViT',
        arch='base',
        img_size=1024,
        patch_size=16,
        window_size=14,
        out_indices=[2, 5, 8, 11],  # these blocks see the whole map
        drop_path_rate=0.1),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[768] * 4, out_channels=256, num_outs=5, norm_cfg=norm_cfg)
    ],
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
        allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,  # mmdet's own is 2, for two images
    batch_sampler=None,  # all images are padded to one size
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(layer_decay_rate=0.75, custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(
    type='CocoMetric', ann_file='data/coco/annotations/instances_val2017.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
default_hooks = dict(
    logger=dict(type='LoggerHook'),
    checkpoint=dict(type='mm_graft.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    rng=dict(type='mm_graft.RNGStateHook'),  # as in runtime.py: interrupted and resumed with the same bits
    preemption=dict(type='mm_graft.PreemptionHook'),
    non_finite=dict(type='mm_graft.NonFiniteGuardHook', patience=10))
randomness = dict(seed=0, diff_rank_seed=True)
auto_scale_lr = dict(base_batch_size=64)
