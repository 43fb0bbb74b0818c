"""MAE, ViT-L/16: step i of layer grafting, for those who train it themselves.

Paper:    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/dist_train.sh configs/graft/vit-l_mae.py 16
Devices:  16 GPUs × 256 images (our choice); the authors took 42 hours for 800 epochs of ViT-L on 64 V100
Expected: fine-tuned 85.9 after 1600 epochs (paper, Table 3, by MAE's own recipe); not run here
Then:     tools/dist_train.sh configs/graft/vit-l_mae2mocov3.py 80 --init work_dirs/vit-l_mae/epoch_1600.pth
Note:     the host's position table is MoCo v3's, the transpose of the authors'; it goes along in the checkpoint
"""

_base_ = ['../_base_/mae_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 1600
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # per 256 images

model = dict(backbone=dict(arch='large'), neck=dict(embed_dim=1024))
train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
