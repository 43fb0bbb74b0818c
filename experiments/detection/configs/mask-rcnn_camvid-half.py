"""Mask R-CNN for CamVid's cars and pedestrians, half size, 240 × 180, with a small ViT: from MAE, or random weights.

Paper:    Mask R-CNN is He et al., ICCV 2017 (arXiv 1703.06870); windows and maps as in configs/detection
Command:  tools/train.py experiments/detection/configs/mask-rcnn_camvid-half.py --init FILE
          from random weights: --init none; both, with data and table: python -m experiments.detection
Needs:    make setup-detection; data/camvid, and its instances by python -m experiments.detection, see docs/detection.md
Devices:  one CPU core, minutes
"""

_base_ = ['../../../configs/_base_/mask_rcnn_vit.py']

max_epochs = 6
classes = ('car', 'pedestrian')
arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
norm_cfg = dict(type='GN', num_groups=8)
image_size = (240, 180)
padded = (192, 256)  # rows and columns: whole patches on every level
width = 64

model = dict(
    data_preprocessor=dict(
        mean=[105.1, 108.5, 110.4], std=[77.0, 78.1, 77.0], batch_augments=[
            dict(type='BatchFixedSizePad', size=padded, img_pad_value=0, pad_mask=True, mask_pad_value=0, pad_seg=False)
        ]),
    backbone=dict(
        _delete_=True, type='mm_graft.WindowedViT', arch=arch, img_size=112, patch_size=8, window_size=14,
        out_indices=[0, 1, 2, 3], global_blocks=[1, 3], drop_path_rate=0.1),
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=96, rescales=[2, 1, 0.5, 0.25], norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[96] * 4, out_channels=width, num_outs=5, norm_cfg=norm_cfg),
    ],
    rpn_head=dict(
        in_channels=width, feat_channels=width, num_convs=1, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(
            _delete_=True, type='Shared2FCBBoxHead', in_channels=width, fc_out_channels=128, roi_feat_size=7,
            num_classes=2,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2, num_classes=2, norm_cfg=norm_cfg)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=200), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
data = dict(metainfo=dict(classes=classes, palette=[(0, 200, 255), (255, 80, 0)]), data_root='data/camvid')
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        **data, ann_file='instances_train.json', data_prefix=dict(img='img_dir/train'), pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        **data, ann_file='instances_test.json', data_prefix=dict(img='img_dir/test'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/camvid/instances_test.json', classwise=True)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(lr=1e-3, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.8))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae_camvid-half/epoch_100.pth', resize=True),
    logger=dict(interval=15),
    checkpoint=dict(max_keep_ckpts=1))
auto_scale_lr = dict(base_batch_size=8)
