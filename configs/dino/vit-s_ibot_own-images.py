"""Self-distillation with hidden patches and KoLeo on a folder of your own unlabeled images, ViT-S/16, one GPU.

Paper:    the objective of iBOT (ICLR 2022, arXiv 2111.07832) and DINOv2 (TMLR 2024, arXiv 2304.07193)
Command:  tools/train.py configs/dino/vit-s_ibot_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
          on an encoder that knows something already, lower layers slow: `--init FILE` and
          `optim_wrapper.paramwise_cfg.stage_lr_mult=[0.1,0.1,1.0]`
Devices:  one GPU of 24 GB or more, or a CPU for trying; the rates are for a batch of 64, else use --auto-scale-lr
Expected: nothing is published for this setting; not run here
Note:     8,192 prototypes and a slower teacher, as iBOT and DINO advise for small batches. Images in any depth of
          sub-folders; no labels are read
"""

_base_ = [
    '../_base_/dino_vit.py',
    '../_base_/imagenet_multi_crop.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 100
warmup_epochs = 10
batch_size = 64
base_lr = 5e-4  # per 256 images
lr = base_lr * batch_size / 256

model = dict(
    momentum=0.9995,
    head=dict(out_channels=8192),
    mask_generator=dict(type='mm_graft.SpreadBlockMask', img_size=224, patch_size=16, ratio=(0.1, 0.5), share=0.5),
    teacher_temperature=dict(start=0.04, end=0.07, warmup=0.3),
    koleo_weight=0.1)
train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(
        type='MultiView',
        num_views=[1, 1, 6],
        transforms=[_base_.first_view, _base_.second_view, _base_.local_view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True, type='mm_graft.ImageFolder', data_root='data/own', with_label=False, pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=lr, weight_decay=0.04),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(stage_lr_mult=[1.0, 1.0, 1.0]))
param_scheduler = [
    dict(
        type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=1e-6 / lr, convert_to_iter_based=True),
    dict(type='mm_graft.CosineWeightDecay', end_ratio=10.0, convert_to_iter_based=True),  # 0.04 → 0.4
]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
