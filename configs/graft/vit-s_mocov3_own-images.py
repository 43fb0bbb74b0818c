"""MoCo v3 from random weights on a folder of your own unlabeled images, ViT-S/16, one GPU: the graft's baseline.

Paper:    the method of Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021
          (arXiv 2104.02057)
Command:  tools/train.py configs/graft/vit-s_mocov3_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
Devices:  one GPU of 24 GB or more, or a CPU for trying; the learning rate is for a batch of 256, else --auto-scale-lr
Expected: nothing is published for this setting; not run here
Note:     to compare with a graft at equal images seen, train for its epochs and those of its MAE. Images in any depth
          of sub-folders; no labels are read
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 100
warmup_epochs = 10
batch_size = 256
base_lr = 1.5e-4  # per 256 images

model = dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True, type='mm_graft.ImageFolder', data_root='data/own', with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(flat_decay_mult=1.0))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
