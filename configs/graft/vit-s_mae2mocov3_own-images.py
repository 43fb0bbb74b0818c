"""Layer grafting on a folder of your own unlabeled images, ViT-S/16, one GPU.

Paper:    the method of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  tools/train.py configs/graft/vit-s_mae_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
          tools/train.py configs/graft/vit-s_mae2mocov3_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
Devices:  one GPU of 24 GB or more, or a CPU for trying; the learning rates are for a batch of 256, else use
          --auto-scale-lr
Expected: nothing is published for this setting; not run here
Note:     images in any depth of sub-folders; no labels are read. Small sets want more epochs rather than fewer
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
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/vit-s_mae_own-images/epoch_200.pth'))

model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(in_channels=384))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own',
        with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
