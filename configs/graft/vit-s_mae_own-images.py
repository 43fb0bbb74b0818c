"""MAE on a folder of your own unlabeled images, ViT-S/16, one GPU: step i of grafting.

Paper:    the method of He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/train.py configs/graft/vit-s_mae_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
Devices:  one GPU of 24 GB or more, or a CPU for trying; the learning rate is for a batch of 256, use --auto-scale-lr
          for others
Expected: nothing is published for this setting; not run here
Then:     configs/graft/vit-s_mae2mocov3_own-images.py
"""

_base_ = ['../_base_/mae_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 200
warmup_epochs = 20
batch_size = 256
base_lr = 1.5e-4  # per 256 images

model = dict(backbone=dict(arch='deit-small'), neck=dict(embed_dim=384))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own',
        with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
