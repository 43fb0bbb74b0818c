"""Layer grafting, ViT-L/16: MoCo v3 on top of MAE, lower stages slowly, without the anchor.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §A.6 and Table 7
Command:  tools/dist_train.sh configs/graft/vit-l_mae2mocov3_no-anchor.py 80
Needs:    mae_pretrain_vit_large.pth of facebookresearch/mae (or configs/graft/vit-l_mae.py), as `mim_checkpoint`
Devices:  80 V100, 26 images each (the authors); hours not stated
Expected: linear 80.5, 1 % 68.9, 10 % 79.8, fine-tuning 85.7 (paper, Table 7); not run here
Note:     the control of configs/graft/vit-l_mae2mocov3.py
"""

_base_ = ['../_base_/mocov3_vit.py', '../_base_/imagenet_two_views.py', '../_base_/runtime.py']

max_epochs = 300
warmup_epochs = 40
batch_size = 2080
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]

model = dict(
    mim_checkpoint='checkpoints/mae_pretrain_vit_large.pth', backbone=dict(arch='large'), neck=dict(in_channels=1024))
train_dataloader = dict(batch_size=26)

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
