"""Layer grafting, ViT-B/16: MoCo v3 on top of LocalMIM, lower stages slowly.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), with LocalMIM (arXiv 2303.05251)
          in MAE's place; neither paper has this combination
Command:  tools/dist_train.sh configs/graft/vit-b_localmim2mocov3.py 64
Needs:    configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-1600e_in1k.py, or its authors' checkpoint, as
          `mim_checkpoint`; the norm of its last tap becomes the final norm
Devices:  as for MAE, 64 devices with 64 images each
Expected: nothing published; not run here
"""

_base_ = ['../_base_/mocov3_vit.py', '../_base_/imagenet_two_views.py', '../_base_/runtime.py']

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]

model = dict(mim_checkpoint='work_dirs/localmim_vit-base-p16_8xb256-amp-coslr-1600e_in1k/epoch_1600.pth')

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
