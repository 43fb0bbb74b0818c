"""Continue from the public weights of any ViT of timm on a folder of your own unlabeled images, one GPU.

Paper:    the objective of Chen et al., MoCo v3, ICCV 2021 (arXiv 2104.02057), with the rates by stage of Jiang et al.,
          Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  tools/train.py configs/continue/vit_own-images.py --init dinov2_vits14_pretrain.pth --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
Needs:    the weights: DINOv2 ViT-S/14 as it stands, others by the overrides of the README
Devices:  one GPU of 24 GB or more; the rates are for a batch of 256, else use --auto-scale-lr
Expected: nothing is published for this setting; docs/continue.md has what was measured on a small scale
Note:     images in any depth of sub-folders; no labels are read. docs/continue.md says which rule is for when, and how
          to watch what is forgotten
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

model_name = 'vit_small_patch14_dinov2'
width = 384
out_type = 'cls_token'
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

max_epochs = 20
warmup_epochs = 2
batch_size = 256
base_lr = 5e-5  # of the upper stage, per 256 images
stage_lr_mult = [0, 0.1, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint=None, resize=True))

data_preprocessor = dict(mean=mean, std=std)
model = dict(
    backbone=dict(_delete_=True, type='mm_graft.TimmViT', model_name=model_name, img_size=224, out_type=out_type),
    neck=dict(in_channels=width))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own',
        with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
find_unused_parameters = True  # of several processes: the lower stage does not train
