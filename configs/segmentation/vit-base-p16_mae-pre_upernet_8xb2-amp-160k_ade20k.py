"""UperNet on ADE20K with the ViT-B/16 of MAE.

Paper:    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/dist_train.sh configs/segmentation/vit-base-p16_mae-pre_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    a pre-training checkpoint, ours or the authors', which may also be given by
          --cfg-options custom_hooks.0.checkpoint=FILE
Devices:  8 GPUs, 2 images each; hours not stated
Expected: mIoU 48.1 (paper; 48.13 in mmseg with its own backbone). Not run here
Differs:  plain ViT with absolute positions alone; mmseg's MAE backbone adds relative positions and layer scale
"""

_base_ = ['../_base_/upernet_vit.py']

checkpoint = 'work_dirs/mae_pretrain_vit_base.pth'
branch = 'base'

custom_hooks = [dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint, branch=branch, resize=True)]
