"""Fine-tuning of LocalMIM's ViT-B/16.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Source:   huawei-noah/Efficient-Computing@225ddd2, Self-supervised/LocalMIM/ViT
Command:  tools/dist_train.sh configs/localmim/vit-base-p16_localmim-pre_8xb128-coslr-100e_in1k.py 8
          after 1600 epochs of pre-training: the override in README.md
Needs:    a checkpoint of configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py,
          or the authors', or `--init FILE`
Devices:  8 GPUs × 128 images; time: not reported
Expected: top-1, by this recipe, 83.3 (authors' README), 83.2 (arXiv 2312.02194, Table 2), after 1600 epochs 84.0
          (authors' README); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
"""

_base_ = [
    '../_base_/localmim_finetune.py',
    '../_base_/imagenet_finetune.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 100
warmup_epochs = 20
batch_size = 1024
lr = 4e-3
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k/epoch_100.pth'))

optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.75, custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
auto_scale_lr = dict(base_batch_size=batch_size)
