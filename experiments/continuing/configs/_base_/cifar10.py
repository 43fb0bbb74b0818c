"""1,500 images of CIFAR-10 as a folder of one's own images, without labels; views are made in batches."""

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mm_graft.ImageFolder',
        data_root='',
        ann_file='data/continuing/own.txt',  # which python -m experiments.continuing writes
        with_label=False,
        pipeline=[dict(type='mm_graft.TolerantLoadImageFromFile'), dict(type='PackInputs')]))
