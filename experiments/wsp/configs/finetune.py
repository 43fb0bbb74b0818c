"""Fine-tuning any encoder of the small run on 10 % of the right labels: 1,000 images of Fashion-MNIST.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496); the recipe is that of experiments/cifar10/configs/finetune.py, with a higher learning
          rate and more epochs
Command:  tools/train.py experiments/wsp/configs/finetune.py
Needs:    data/fashion_mnist (python -m experiments.wsp --prepare), and a checkpoint of the small run
Devices:  one CPU core, a minute
Results:  docs/weak_supervision.md, whose tool draws 100 images a class; the first 1,000 are taken here
"""

_base_ = [
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
    '../../demo/configs/_base_/fashion_mnist.py',
]

max_epochs = 12
# of 1e-3, 4e-3 and 1.6e-2 the best for random weights, and for MAE as good as 4e-3, on images used nowhere else
base_lr = 1.6e-2  # per 256 images
batch_size = 64
num_labels = 1000
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae2wsp/epoch_4.pth'))

data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=10, mean=[73.0], std=[90.0])
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mm_graft.GraftViT',
        arch=dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384),
        img_size=28,
        patch_size=4,
        in_channels=1,
        stop_grad_conv1=False),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=[dict(type='TruncNormal', layer='Linear', std=2e-5, a=-2e-5, b=2e-5)]))
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        indices=num_labels,
        pipeline=[
            dict(type='RandomResizedCrop', scale=20, crop_ratio_range=(0.3, 1.0)),  # as the weak supervision
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ]))
test_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='FashionMNIST', data_root=_base_.data_root, split='test', test_mode=True, download=False,
        pipeline=[dict(type='PackInputs')]))
test_evaluator = dict(type='Accuracy', topk=(1, ))
test_cfg = dict()
# on the way, a part of the test images is enough to draw a curve; nothing is chosen by it
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='FashionMNIST', data_root=_base_.data_root, split='test', test_mode=True, download=False, indices=1000,
        pipeline=[dict(type='PackInputs')]))
val_evaluator = test_evaluator
val_cfg = dict()

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.75, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=1)
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
