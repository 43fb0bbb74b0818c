"""Fine-tuning any encoder of this folder on CIFAR-10, on all labels or a part of them.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §A.5; a recipe for small images
Command:  tools/train.py experiments/cifar10/configs/finetune.py, or make reproduce for all rows
Devices:  one CPU core; `full`: one GPU
Needs:    a checkpoint of this folder, or `--init FILE`; not ConMIM, whose ViT has relative positions
Expected: docs/results/cifar10_cpu.md if it is there; size `full` was not run here
"""

_base_ = ['../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py', '_base_/data.py']

max_epochs = 5
base_lr = 1.6e-2  # per 256 images; five epochs want a high one
batch_size = 64
width = 64
num_layers = 6
num_heads = 2
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae2mocov3/epoch_3.pth'))

data_preprocessor = dict(
    _delete_=True, num_classes=10, mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7], to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mm_graft.GraftViT',
        arch=dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width),
        img_size=32,
        patch_size=4,
        stop_grad_conv1=False),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=width,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=[dict(type='TruncNormal', layer='Linear', std=2e-5, a=-2e-5, b=2e-5)]))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='RandomCrop', crop_size=32, padding=4),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInputs'),
    ]))
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator
val_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.75, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
