"""Fine-tuning of LocalMIM, ViT-B/16 pre-trained for 1600 epochs.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Source:   huawei-noah/Efficient-Computing@225ddd2, Self-supervised/LocalMIM/ViT
Command:  tools/dist_train.sh configs/localmim/vit-base-p16_localmim-1600e-pre_8xb128-coslr-100e_in1k.py 8
Needs:    a checkpoint of configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-1600e_in1k.py,
          or the authors', as `checkpoint`
Devices:  8 GPUs, 128 images each; hours not stated
Expected: 84.0 (authors' README); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
"""

_base_ = ['../_base_/localmim_finetune.py', '../_base_/imagenet_finetune.py', '../_base_/runtime.py']

max_epochs = 100
warmup_epochs = 20
batch_size = 1024
lr = 2e-3
checkpoint = 'work_dirs/localmim_vit-base-p16_8xb256-amp-coslr-1600e_in1k/epoch_1600.pth'
custom_hooks = [dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint)]

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.65, custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=1e-5 / lr, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
auto_scale_lr = dict(base_batch_size=batch_size)
