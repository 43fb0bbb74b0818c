"""Fine-tuning of LocalMIM, ViT-L/16 pre-trained for 800 epochs.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Source:   huawei-noah/Efficient-Computing@225ddd2, Self-supervised/LocalMIM/ViT
Command:  tools/dist_train.sh configs/localmim/vit-large-p16_localmim-pre_8xb128-coslr-50e_in1k.py 8
Needs:    a checkpoint of configs/localmim/localmim_vit-large-p16_8xb128-accum4-amp-coslr-800e_in1k.py,
          or the authors', or `--init FILE`
Devices:  8 GPUs × 128 images; time: not reported
Expected: top-1 85.8 (authors' README, by this recipe); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     batch and final rate are those of ViT-B; for ViT-L only the other numbers are known to us
"""

_base_ = [
    '../_base_/localmim_finetune.py',
    '../_base_/imagenet_finetune.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 50
warmup_epochs = 5
batch_size = 1024
lr = 3e-3
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/localmim_vit-large-p16_8xb128-accum4-amp-coslr-800e_in1k/epoch_800.pth'))

model = dict(backbone=dict(arch='large', drop_path_rate=0.2), head=dict(in_channels=1024))

optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.75, custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
auto_scale_lr = dict(base_batch_size=batch_size)
