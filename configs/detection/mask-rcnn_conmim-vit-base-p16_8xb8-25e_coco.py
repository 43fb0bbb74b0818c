"""Mask R-CNN on COCO with ConMIM's ViT-B/16: absolute and relative positions.

Paper:    Yi et al., ConMIM, ICLR 2023 (arXiv 2205.09616), Tables 5 and 14
Command:  tools/dist_train.sh configs/detection/mask-rcnn_conmim-vit-base-p16_8xb8-25e_coco.py 8
Needs:    pip install "mm_graft[detection]" or make setup-detection, see docs/detection.md; COCO 2017 in data/coco; the
          teacher of a pre-training, by --init FILE; a fine-tuned model for the row
          with intermediate fine-tuning
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: box / mask AP 47.8 / 42.5, with intermediate fine-tuning 48.7 / 43.6 (paper, Table 5, by this recipe as far
          as it is published); not run here
Differs:  the authors released no code for detection; Table 14 prints 1e-4 as the learning rate while §5.3 says that it
          was tuned; layer decay, window, warm-up and the pyramid's norm are not published
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k/epoch_800.pth',
        branch='momentum',
        resize=True))
model = dict(
    backbone=dict(
        type='mm_graft.WindowedConMIMViT',
        use_abs_pos_emb=True,
        layer_scale_init_value=0.1))  # overwritten by the checkpoint
