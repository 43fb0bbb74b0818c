"""UperNet on ADE20K with a ViT-S/16 that was grafted on your own images.

Paper:    the method of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  tools/dist_train.sh configs/segmentation/vit-small-p16_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    a pre-training checkpoint of configs/graft/vit-s_mae2mocov3_own-images.py, or another by
          --init FILE --cfg-options default_hooks.init.branch=momentum
Devices:  8 GPUs × 2 images; time: not reported
Expected: nothing is published for this setting; not run here
Differs:  everything but the width is the ViT-B's
"""

_base_ = ['../_base_/upernet_vit.py']

default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/vit-s_mae2mocov3_own-images/epoch_100.pth',
        resize=True))


model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384))
