"""UperNet on a small ViT for CamVid, 11 classes, void left out."""

default_scope = 'mmseg'
arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
classes = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist')
palette = [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
           [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]]
void = 11

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=dict(classes=classes, palette=palette),
        data_root='data/camvid',
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        img_suffix='.jpg',
        seg_map_suffix='.png',
        ignore_index=void,
        reduce_zero_label=False))
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        metainfo=dict(classes=classes, palette=palette),
        data_root='data/camvid',
        data_prefix=dict(img_path='img_dir/test', seg_map_path='ann_dir/test'),
        img_suffix='.jpg',
        seg_map_suffix='.png',
        ignore_index=void,
        reduce_zero_label=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'], ignore_index=void)
test_evaluator = val_evaluator

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[105.1, 108.5, 110.4],
        std=[77.0, 78.1, 77.0],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=void),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=arch,
        patch_size=8,
        final_norm=False,
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.1),
    neck=dict(type='Feature2Pyramid', embed_dim=96, rescales=[2, 1, 0.5, 0.25], norm_cfg=norm_cfg),
    decode_head=dict(
        type='UPerHead',
        in_channels=[96, 96, 96, 96],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=32,
        dropout_ratio=0.1,
        num_classes=11,
        ignore_index=void,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide'))

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.8))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mm_graft.SafeCheckpointHook', by_epoch=False, interval=1000000, save_last=True),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    rng=dict(type='mm_graft.RNGStateHook'),  # as in runtime.py: interrupted and resumed with the same bits
    preemption=dict(type='mm_graft.PreemptionHook'),
    non_finite=dict(type='mm_graft.NonFiniteGuardHook', patience=10))
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
auto_scale_lr = dict(base_batch_size=8)
