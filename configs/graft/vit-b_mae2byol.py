"""Layer grafting, ViT-B/16: mmpretrain's BYOL on top of MAE, lower stages at a lower learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), with BYOL (arXiv 2006.07733) in
          MoCo v3's place; neither paper has this combination
Command:  tools/dist_train.sh configs/graft/vit-b_mae2byol.py 64
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  64 GPUs × 64 images (our choice); time: not reported
Expected: nothing published; not run here
Note:     learning rates and length are those of the MoCo v3 graft; the target network starts as a copy of what was
          loaded
"""

_base_ = ['../_base_/imagenet_two_views.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

mlp = dict(
    type='NonLinearNeck', hid_channels=4096, out_channels=256, num_layers=2, with_bias=True, with_last_bn=False,
    with_avg_pool=False)
model = dict(
    type='BYOL',
    base_momentum=0.01,  # share of the online network that the target takes over at first; falls to 0
    backbone=dict(type='mm_graft.GraftViT', arch='base', img_size=224, patch_size=16),
    neck=dict(in_channels=768, **mlp),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(in_channels=256, **mlp),
        loss=dict(type='CosineSimilarityLoss')))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1), paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
