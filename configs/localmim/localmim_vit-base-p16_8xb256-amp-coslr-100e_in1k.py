"""LocalMIM, ViT-B/16, 100 epochs.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Source:   huawei-noah/Efficient-Computing@225ddd2, Self-supervised/LocalMIM/ViT
Command:  tools/dist_train.sh configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py 8
          1600 epochs and ViT-S: the overrides in README.md
Devices:  8 GPUs × 256 images; 0.7 GPU hours an epoch (authors; they name no GPU)
Expected: fine-tuned, by the recipe of this folder, 83.3 (authors' README), 83.2 (arXiv 2312.02194, Table 2), 84.0
          after 1600 epochs (authors' README); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
"""

_base_ = ['../_base_/localmim_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
warmup_epochs = 10
batch_size = 2048
base_lr = 2e-4  # per 256 images
lr = base_lr * batch_size / 256

train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    # 1-D tensors are not decayed, class and mask tokens are
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=batch_size)
