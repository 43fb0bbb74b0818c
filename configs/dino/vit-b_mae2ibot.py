"""Layer grafting, ViT-B/16: self-distillation with hidden patches and KoLeo on top of MAE, lower stages slow.

Paper:    the graft of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), with the objective of
          iBOT (ICLR 2022, arXiv 2111.07832) and DINOv2 (TMLR 2024, arXiv 2304.07193) in the place of MoCo v3
Command:  tools/dist_train.sh configs/dino/vit-b_mae2ibot.py 16
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  16 GPUs, 64 images each, is ours
Expected: nothing published for this combination; not run here
Note:     rates and epochs are ours; heads, temperatures and weights are those of DINOv2's ViT-L/16 on ImageNet-1k
"""

_base_ = [
    '../_base_/dino_vit.py',
    '../_base_/imagenet_multi_crop.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 100
warmup_epochs = 10
batch_size = 1024
base_lr = 1.5e-4  # of the upper stage, per 256 images
lr = base_lr * batch_size / 256
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

model = dict(
    backbone=dict(arch='base', stop_grad_conv1=True),
    mask_generator=dict(type='mm_graft.SpreadBlockMask', img_size=224, patch_size=16, ratio=(0.1, 0.5), share=0.5),
    teacher_temperature=dict(start=0.04, end=0.07, warmup=0.3),
    koleo_weight=0.1)
train_dataloader = dict(batch_size=64)

optim_wrapper = dict(
    optimizer=dict(lr=lr, weight_decay=0.04),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = [
    dict(
        type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=1e-6 / lr, convert_to_iter_based=True),
    dict(type='mm_graft.CosineWeightDecay', end_ratio=10.0, convert_to_iter_based=True),  # 0.04 → 0.4
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
