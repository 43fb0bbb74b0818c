"""MoCo v3 from random weights, ViT-B/16: the contrastive baseline of layer grafting.

Paper:    Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.02057);
          the baseline of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Tables 1 to 3
Source:   facebookresearch/moco-v3@c349e6e, CONFIG.md
Command:  tools/dist_train.sh configs/graft/vit-b_mocov3.py 64
          ViT-L: the override in README.md; the authors publish no command for it
Devices:  64 GPUs × 64 images (our choice); time: not reported
Expected: linear 76.7, 1 % 63.4, 10 % 75.4, fine-tuning 83.2 (the paper of grafting, Tables 2 and 3, by its
          protocols); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     weight decay acts on all parameters, those of one dimension too, as in the authors' code
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
base_lr = 1.5e-4  # per 256 images

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(flat_decay_mult=1.0))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
