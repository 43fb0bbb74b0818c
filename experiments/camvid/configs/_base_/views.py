"""CamVid's own training images, 240 × 180, whole, in batches of 32: views are made of a batch."""

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root='data/camvid',
        data_prefix='img_dir/train',
        with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
