"""MIM→CL grafting, ViT-B/16: MoCo v3 on top of MAE, the lower two stages frozen and out of autograd.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.3 and Table 1
Command:  tools/dist_train.sh configs/graft/vit-b_mae2mocov3_frozen.py 64
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), as `mim_checkpoint`
Devices:  not stated; as for configs/graft/vit-b_mae2mocov3.py
Expected: linear 74.5, 1 % 56.5, fine-tuning 83.6 (paper, Table 1); not run here
Note:     how many blocks the paper froze is not stated; its Figure 2 draws two of three stages
"""

_base_ = ['../_base_/mocov3_vit.py', '../_base_/imagenet_two_views.py', '../_base_/runtime.py']

max_epochs = 100
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.0, 0.0, 1.0]  # 0 freezes

model = dict(mim_checkpoint='checkpoints/mae_pretrain_vit_base.pth')

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
find_unused_parameters = True  # the model is wrapped before the stages are frozen
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
