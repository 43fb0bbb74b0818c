"""Fine-tuning a ViT on ImageNet-1k as Layer Grafted Pre-training does: class token, mixup, CutMix, RandAugment.

Source: VITA-Group/layerGraftedPretraining_ICLR23@f1862e1, main_finetune_mae.py and its launch script.
"""

# The released launch script always normalizes with 0.5, unlike pre-training; whether the published numbers did is not
# known. ImageNet's own: mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375].
mean, std = [127.5, 127.5, 127.5], [127.5, 127.5, 127.5]
data_root = 'data/imagenet/'
data_preprocessor = dict(num_classes=1000, mean=mean, std=std, to_rgb=True)

train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(value) for value in mean[::-1]], interpolation='bicubic')),
    dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3,
         fill_color=mean[::-1], fill_std=std[::-1]),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='mm_graft.LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageNet', data_root=data_root, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageNet', data_root=data_root, split='val', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

model = dict(
    type='ImageClassifier',
    # position embedding frozen, patch projection trained
    backbone=dict(
        type='mm_graft.GraftViT',
        arch='base',
        img_size=224,
        patch_size=16,
        stop_grad_conv1=False,
        drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=[dict(type='TruncNormal', layer='Linear', std=2e-5, a=-2e-5, b=2e-5)]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
