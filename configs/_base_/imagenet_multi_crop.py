"""ImageNet-1k, two global and ten local views of each image as in MIM-Refiner (ml-jku/MIM-Refiner@cc574235995e).

Made with OpenCV, since twelve views an image are more than a loader with PIL can make: the distributions are the same,
the pixels not quite (mm_graft/datasets/transforms/fast_views.py says how they differ).
"""

dataset_type = 'ImageNet'
data_root = 'data/imagenet/'
data_preprocessor = dict(
    type='mm_graft.ChannelPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    non_blocking=True)  # bytes go to the device, which makes them numbers and normalizes them

global_crop = dict(type='mm_graft.FastCrop', scale=224, crop_ratio_range=(0.25, 1.0), interpolation='bicubic')
first_view = [global_crop, dict(type='mm_graft.FastPhotometric', blur_probability=1.0)]
second_view = [global_crop, dict(type='mm_graft.FastPhotometric', blur_probability=0.1, solarize_probability=0.2)]
local_view = [
    dict(type='mm_graft.FastCrop', scale=96, crop_ratio_range=(0.05, 0.25), interpolation='bicubic'),
    dict(type='mm_graft.FastPhotometric', blur_probability=0.5),
]
train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(type='MultiView', num_views=[1, 1, 10], transforms=[first_view, second_view, local_view]),
    dict(type='PackInputs'),  # keeps sample_idx, by which an image is kept from being its own neighbor
]

train_dataloader = dict(
    batch_size=64,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline))
