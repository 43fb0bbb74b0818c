"""UperNet on ADE20K with the ViT-B/16 of MoCo v3.

Paper:    Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021
          (arXiv 2104.02057)
Command:  tools/dist_train.sh configs/segmentation/vit-base-p16_mocov3-pre_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    a pre-training checkpoint, ours or the authors', which may also be given by
          --cfg-options custom_hooks.0.checkpoint=FILE custom_hooks.0.branch=momentum
Devices:  8 GPUs, 2 images each; hours not stated
Expected: mIoU 47.3 (Layer Grafted Pre-training, Table 6). Not run here
Differs:  no configuration is published; this is mmseg's for MAE with a plain ViT and bf16 that is on
"""

_base_ = ['../_base_/upernet_vit.py']

checkpoint = 'work_dirs/vit-b-300ep.pth.tar'
branch = 'base'

custom_hooks = [dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint, branch=branch, resize=True)]
