"""Layer grafting, ViT-B/16: MoCo v3 on top of MAE, lower stages at a lower learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.4 and §A.5
Command:  tools/dist_train.sh configs/graft/vit-b_mae2mocov3.py 64
          lower stages frozen, or on LocalMIM: the overrides in README.md
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  64 V100 × 64 images (the authors); time: not reported
Expected: linear 77.7, 1 % 65.5, 10 % 77.8, fine-tuning 83.9 (paper, Tables 2 and 3, by its protocols); not run here
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


optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
