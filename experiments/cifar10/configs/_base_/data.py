"""5,000 training and 5,000 test images of CIFAR-10; experiments/cifar10/sizes.py has the overrides for all of them.

The data are 32×32 color images in ``data/cifar10/{train,test}/<class>/``, made from the binary version of the data set
by ``python -m experiments.cifar10.prepare cifar-10-binary.tar.gz``, lists of images included.
"""

epochs = 6  # of a method in one step; one in two steps has half of them for each
warmup = 0.5
batch_size = 64
mim_lr = 2e-3
contrastive_lr = 1.5e-3

data_root = 'data/cifar10/'
train_list = 'meta/train_5000.txt'
test_list = 'meta/test_5000.txt'
mean, std = [125.3, 123.0, 113.9], [63.0, 62.1, 66.7]
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=mean, std=std, to_rgb=True)
loading = dict(
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'))

whole_image = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
# the image as masked image modeling takes it: one crop and flip
plain_image = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=32,
        crop_ratio_range=(0.2, 1.0),
        backend='pillow',
        interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', ann_file=train_list, pipeline=whole_image),
    **loading)
# for the evaluations of a checkpoint, not for training
test_dataloader = dict(
    batch_size=500,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='test', ann_file=test_list, pipeline=whole_image),
    **loading)
test_evaluator = dict(type='Accuracy', topk=(1, ))
test_cfg = dict()
