"""Mask R-CNN on COCO with a plain ViT-B/16 and ViTDet's pyramid, made of the last map alone.

Paper:    pyramid of Li et al., ViTDet, ECCV 2022 (arXiv 2203.16527); the rest as the other configs of this folder
Command:  tools/dist_train.sh configs/detection/mask-rcnn_vit-base-p16_simple-pyramid_8xb8-25e_coco.py 8 --init FILE
Needs:    pip install "mm_graft[detection]" or make setup-detection, see docs/detection.md; COCO 2017 in data/coco
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: nothing published for this recipe; not run here
Differs:  from ViTDet in all but the pyramid: 25 epochs, learning rate and layer decay of the other configs
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth', resize=True))
model = dict(
    backbone=dict(out_indices=[11], global_blocks=[2, 5, 8, 11]),
    neck=dict(_delete_=True, type='mm_graft.SimpleFeaturePyramid', in_channels=768))
