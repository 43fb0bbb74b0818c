"""MAE, ViT-B/16: step i of layer grafting, for those who train it themselves.

Paper:    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/dist_train.sh configs/graft/vit-b_mae.py 8
Devices:  8 GPUs × 512 images (our choice); the authors took 42 hours for 800 epochs of ViT-L on 64 V100
Expected: fine-tuned 83.6 after 1600 epochs (paper, Table 3, by MAE's own recipe); not run here
Then:     tools/dist_train.sh configs/graft/vit-b_mae2mocov3.py 64 --init work_dirs/vit-b_mae/epoch_1600.pth
Note:     the host's position table is MoCo v3's, the transpose of the authors'; it goes along in the checkpoint
"""

_base_ = ['../_base_/mae_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 1600
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # per 256 images

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
