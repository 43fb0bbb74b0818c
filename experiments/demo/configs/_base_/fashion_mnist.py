"""10,000 images of Fashion-MNIST, 28×28 gray, whole in memory; views and masks are made in batches."""

dataset_type = 'FashionMNIST'
data_root = 'data/fashion_mnist/'
num_images = 10000

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type=dataset_type, data_root=data_root, download=False, indices=num_images, pipeline=[dict(type='PackInputs')]))
