"""Mask R-CNN on COCO with ConMIM's ViT-S/16: absolute and relative positions.

Paper:    Yi et al., ConMIM, ICLR 2023 (arXiv 2205.09616), Tables 5 and 14
Command:  tools/dist_train.sh configs/detection/mask-rcnn_conmim-vit-small-p16_8xb8-25e_coco.py 8
Needs:    pip install "mm_graft[detection]" or make setup-detection, see docs/detection.md; COCO 2017 in data/coco; the
          teacher of a pre-training, or another file by --init FILE
Batch:    8 GPUs × 8 images (the layout is our choice); time: not reported
Expected: box / mask AP 45.8 / 41.0 after 300 epochs (paper, Table 5, by this recipe as far as it is published); not
          run here
Differs:  as mask-rcnn_conmim-vit-base-p16_8xb8-25e_coco.py; absolute positions start fresh, as pre-training has none
"""

_base_ = ['../_base_/mask_rcnn_vit.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)

default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/conmim_vit-small-p16_16xb128-amp-coslr-300e_in1k/epoch_300.pth',
        branch='momentum',
        resize=True))
model = dict(
    backbone=dict(
        type='mm_graft.WindowedConMIMViT',
        arch='small',
        use_abs_pos_emb=True,
        layer_scale_init_value=0.1),  # overwritten by the checkpoint
    neck=[
        dict(type='mmseg.Feature2Pyramid', embed_dim=384, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
        dict(type='FPN', in_channels=[384] * 4, out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    ])
