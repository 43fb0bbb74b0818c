"""Mask R-CNN on LVIS 1.0 with a plain ViT-B/16 of any pre-training: 1203 classes, rare ones shown more often.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496), evaluates on COCO and LVIS; its detection recipe was not at hand
Command:  tools/dist_train.sh configs/detection/mask-rcnn_vit-base-p16_8xb8-25e_lvis.py 8
Needs:    mmdetection, see docs/detection.md; pip install lvis; LVIS 1.0 in data/lvis_v1 with COCO's images below it
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: nothing published for this recipe; not run here
Recipe:   that of COCO here; what LVIS changes are mmdetection's settings of LVIS: images of rare classes repeated by
          Gupta et al., 2019 (arXiv 1908.03195) with a threshold of 1e-3, up to 300 boxes an image, none below 1e-4
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

# lvis itself reads a name that NumPy no longer has
custom_imports = dict(
    imports=['mm_graft.host.mmcv_operators', 'mmdet.models', 'mm_graft.host.lvis_numbers'], allow_failed_imports=False)

data_root = 'data/lvis_v1/'
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth', resize=True))

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300)))

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=1e-3,
        dataset=dict(
            type='LVISV1Dataset',
            data_root=data_root,
            ann_file='annotations/lvis_v1_train.json',
            data_prefix=dict(img=''),  # the annotations name train2017/ and val2017/
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=_base_.train_pipeline)))
val_dataloader = dict(
    dataset=dict(
        type='LVISV1Dataset',
        data_root=data_root,
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(_delete_=True, img='')))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='LVISMetric', ann_file=data_root + 'annotations/lvis_v1_val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
