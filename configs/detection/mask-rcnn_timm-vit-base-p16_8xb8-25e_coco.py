"""Mask R-CNN on COCO with any ViT of timm, here DINOv3's ViT-B/16: registers, RoPE, SwiGLU and all.

Paper:    recipe of Li et al., 2021 (arXiv 2111.11429), as the other configs of this folder
Command:  tools/dist_train.sh configs/detection/mask-rcnn_timm-vit-base-p16_8xb8-25e_coco.py 8 --init FILE
          another encoder: --cfg-options model.backbone.model_name=NAME
Needs:    pip install "mm_graft[detection]" or make setup-detection, see docs/detection.md; COCO 2017 in data/coco
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: nothing published for this recipe; not run here
Differs:  every block attends to the whole map, 64 × 64 patches and prefix tokens: timm's blocks know no windows;
          other patches than 16 pixels want other strides
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/vit_base_patch16_dinov3.pth', resize=True))
model = dict(
    backbone=dict(
        _delete_=True,
        type='mm_graft.TimmViT',
        model_name='vit_base_patch16_dinov3',
        img_size=1024,
        out_type='featmap',
        out_indices=[2, 5, 8, 11],
        drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(optional=True))))  # RoPE has no table
