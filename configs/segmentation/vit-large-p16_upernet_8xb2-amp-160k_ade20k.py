"""UperNet on ADE20K with the ViT-L/16 of Layer Grafted Pre-training.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Table 6
Command:  tools/dist_train.sh configs/segmentation/vit-large-p16_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    a pre-training checkpoint, ours or the authors', which may also be given by
          --init FILE --cfg-options default_hooks.init.branch=momentum
Devices:  8 GPUs × 2 images; time: not reported
Expected: nothing is stated for this size. Not run here
Differs:  the authors published no configuration; layer decay 0.75 and drop path 0.2 are ours
"""

_base_ = ['../_base_/upernet_vit.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/vit-l_mae2mocov3/epoch_300.pth', resize=True))
lr = 1e-4
layer_decay_rate = 0.75


model = dict(
    backbone=dict(arch='large', out_indices=[7, 11, 15, 23], drop_path_rate=0.2),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024))
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=layer_decay_rate))
