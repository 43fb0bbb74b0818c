"""UperNet on ADE20K with the ViT-B/16 of LocalMIM.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Command:  tools/dist_train.sh configs/segmentation/vit-base-p16_localmim-pre_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    a pre-training checkpoint, ours or the authors', which may also be given by
          --cfg-options custom_hooks.0.checkpoint=FILE
Devices:  8 GPUs, 2 images each; hours not stated
Expected: the authors' repository states nothing for ADE20K. Not run here
Differs:  no configuration is published; this is mmseg's for MAE with a plain ViT and bf16 that is on
"""

_base_ = ['../_base_/upernet_vit.py']

checkpoint = 'work_dirs/localmim_vit-base-p16_8xb256-amp-coslr-1600e_in1k/epoch_1600.pth'
branch = 'base'

custom_hooks = [dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint, branch=branch, resize=True)]
