"""Weak supervision for a CPU: 10,000 images of Fashion-MNIST, 40 % of the class tags wrong, a ViT of 6 × 96.

Data:  python -m experiments.wsp --prepare (experiments.wsp.noisy_captions)
"""

num_labels = 20  # ten classes, ten words of context
arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
data_root = 'data/fashion_mnist_tags/'

train_pipeline = [
    dict(type='LoadImageFromFile', color_type='grayscale'),
    dict(type='RandomResizedCrop', scale=20, crop_ratio_range=(0.3, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mm_graft.RareTagSampler', power=0.5),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mm_graft.TaggedImages',
        data_root=data_root,
        ann_file='captions.jsonl',
        synsets='synsets.txt',
        pipeline=train_pipeline))

model = dict(
    type='mm_graft.WeaklySupervised',
    data_preprocessor=dict(type='ClsDataPreprocessor', mean=[73.0], std=[90.0]),
    backbone=dict(
        type='mm_graft.GraftViT', arch=arch, img_size=28, patch_size=4, in_channels=1, stop_grad_conv1=False),
    head=dict(
        type='LinearClsHead', num_classes=num_labels, in_channels=96, loss=dict(type='mm_graft.TagCrossEntropyLoss')))
