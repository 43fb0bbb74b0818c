"""The control of FreezeOut: LocalMIM, ViT-B/16, nothing frozen, the 100-epoch schedule stopped after 83 epochs.

Papers:   Wang et al., LocalMIM (arXiv 2303.05251); what it controls: arXiv 2312.02194
Source:   utkutpcgl/ViTFreeze@30e80f9, fine-tuning logs of interrupted baselines
Command:  tools/dist_train.sh configs/freezeout/localmim-stopped-early_vit-base-p16_8xb256-amp-83e_in1k.py 8
Devices:  0.48 hours of one V100 an epoch (arXiv 2312.02194, Table 1)
Expected: fine-tuned between 83.17 (stopped after 70 epochs) and 83.38 (after 90; logs of ViTFreeze); not run here
Note:     FreezeOut with t0 = 0.8, cubic, needs 82.6 % of LocalMIM's FLOPs, decoders included: as much as 83 epochs
"""

_base_ = ['../_base_/localmim_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py']

max_epochs = 83
schedule_epochs = 100
warmup_epochs = 10
batch_size = 2048
base_lr = 2e-4  # per 256 images
lr = base_lr * batch_size / 256

train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=[1.0]))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR',
    warmup=warmup_epochs,
    end=schedule_epochs,
    min_ratio=1e-6 / lr,
    convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=batch_size)
