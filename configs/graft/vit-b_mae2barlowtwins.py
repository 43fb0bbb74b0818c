"""Layer grafting, ViT-B/16: mmpretrain's Barlow Twins on top of MAE, lower stages at a lower learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), with Barlow Twins (arXiv 2103.03230)
          in MoCo v3's place; neither paper has this combination
Command:  tools/dist_train.sh configs/graft/vit-b_mae2barlowtwins.py 64
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  64 GPUs × 64 images (our choice); time: not reported
Expected: nothing published; not run here
Note:     learning rates and length are those of the MoCo v3 graft
"""

_base_ = ['../_base_/imagenet_two_views.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

model = dict(
    type='BarlowTwins',
    backbone=dict(type='mm_graft.GraftViT', arch='base', img_size=224, patch_size=16),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=8192,
        out_channels=8192,
        num_layers=3,
        with_last_bn=False,
        with_avg_pool=False),
    head=dict(type='LatentCrossCorrelationHead', in_channels=8192, loss=dict(type='CrossCorrelationLoss')))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1), paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
