"""Mask R-CNN on COCO with a plain ViT-B/16 of any pre-training; other sizes and encoders in the README's table.

Paper:    recipe of Li et al., 2021 (arXiv 2111.11429), as ConMIM (ICLR 2023, arXiv 2205.09616), Tables 5 and 14
Command:  tools/dist_train.sh configs/detection/mask-rcnn_vit-base-p16_8xb8-25e_coco.py 8
Needs:    pip install "mm_graft[detection]" or make setup-detection, see docs/detection.md; COCO 2017 in data/coco
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: box / mask AP 48.0 / 43.0 from MAE, 47.3 / 42.2 from MoCo v3, 46.5 / 41.7 from scratch (ConMIM's Table 5, by
          this recipe as far as it is published); not run here
Differs:  layer decay, window, warm-up and the pyramid's norm are not published
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth', resize=True))
