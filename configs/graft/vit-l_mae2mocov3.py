"""Layer grafting, ViT-L/16: MoCo v3 on top of MAE, lower stages at a lower learning rate and anchored to MAE's weights.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §A.5, §A.6 and Table 7
Command:  tools/dist_train.sh configs/graft/vit-l_mae2mocov3.py 80
          without the anchor (Table 7): --cfg-options custom_hooks.1.weight=0
Needs:    mae_pretrain_vit_large.pth of facebookresearch/mae (or configs/graft/vit-l_mae.py), or
          `--init FILE`
Devices:  80 V100 × 26 images (the authors); time: not reported
Expected: linear 81.0, 1 % 69.3, 10 % 80.1, fine-tuning 85.9 (paper, Tables 2 and 3, by its protocols); not run here
Note:     the paper calls the anchor an l2 distance; the authors' code sums absolute differences (p=1, the default)
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 300
warmup_epochs = 40
batch_size = 2080
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_large.pth'))

model = dict(backbone=dict(arch='large'), neck=dict(in_channels=1024))
train_dataloader = dict(batch_size=26)

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='mm_graft.StageLRLoggerHook'),
    # class token and the first 12 of 24 blocks
    dict(type='mm_graft.WeightAnchor', weight=1e-5, max_depth=12, p=1),
]
auto_scale_lr = dict(base_batch_size=batch_size)
