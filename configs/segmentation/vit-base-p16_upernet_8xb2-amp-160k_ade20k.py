"""UperNet on ADE20K with a ViT-B/16 of any pre-training; the default is that of Layer Grafted Pre-training.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Table 6
Command:  tools/dist_train.sh configs/segmentation/vit-base-p16_upernet_8xb2-amp-160k_ade20k.py 8
          after MAE, MoCo v3, LocalMIM: the overrides in README.md
Needs:    a pre-training checkpoint, ours or the authors', which may also be given by
          --init FILE --cfg-options default_hooks.init.branch=momentum
Devices:  8 GPUs × 2 images; time: not reported
Expected: mIoU 48.7 (paper, Table 6, by its recipe, which does not print the size of the backbone). Not run here
Differs:  the authors published no configuration; this is mmseg's for MAE with a plain ViT and bf16 that is on
"""

_base_ = ['../_base_/upernet_vit.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/vit-b_mae2mocov3/epoch_300.pth', resize=True))

