"""Layer grafting, ViT-B/16: VICReg on top of MAE, lower stages at a lower learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §3.4 and Table 4
Command:  tools/dist_train.sh configs/graft/vit-b_mae2vicreg.py 64
          its baseline, VICReg from random weights: the override in README.md
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  not reported; as for configs/graft/vit-b_mae2mocov3.py
Expected: linear 74.9, fine-tuning 83.6; VICReg from random weights, 100 epochs: 70.1 and 81.2 (paper, Table 4, by its
          protocols); not run here
Note:     epochs and learning rates of this graft are not published; those of the MoCo v3 graft stand in
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

model = dict(
    _delete_=True,
    type='mm_graft.GraftedVICReg',
    backbone={{_base_.model.backbone}},
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=8192,
        out_channels=8192,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False),
    head=dict(type='mm_graft.VICRegLoss', invariance_weight=25.0, variance_weight=25.0, covariance_weight=1.0))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
