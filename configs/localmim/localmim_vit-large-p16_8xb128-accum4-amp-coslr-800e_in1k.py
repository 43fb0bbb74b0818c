"""LocalMIM, ViT-L/16, 800 epochs.

Paper:    Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction, CVPR 2023 (arXiv 2303.05251)
Source:   huawei-noah/Efficient-Computing@225ddd2, Self-supervised/LocalMIM/ViT
Command:  tools/dist_train.sh configs/localmim/localmim_vit-large-p16_8xb128-accum4-amp-coslr-800e_in1k.py 8
Devices:  8 GPUs × 128 images, 4 steps accumulated; 1.0 GPU hours an epoch (authors; they name no GPU)
Expected: fine-tuned 85.8 (authors' README, by the recipe of this folder); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     the warm-up of 40 epochs is that of the authors' 1600-epoch recipe; the targets depend on the seed
"""

_base_ = ['../_base_/localmim_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 800
warmup_epochs = 40
batch_size = 4096  # 8 · 128 · 4
base_lr = 1.5e-4  # per 256 images
lr = base_lr * batch_size / 256

model = dict(
    backbone=dict(arch='large'),
    neck=dict(in_channels=1024, out_channels=54),
    # 18 bins, and a frozen random pair on the gradients of each scale
    target_generator=dict(nbins=18, random_bias=True))
train_dataloader = dict(batch_size=128)

optim_wrapper = dict(
    accumulative_counts=4,
    # 1-D tensors are not decayed, class and mask tokens are
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=20))
auto_scale_lr = dict(base_batch_size=batch_size)
