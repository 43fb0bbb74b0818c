"""Images with hashtags in their captions: one crop and flip, rare tags shown more often.

Data:  data/captions/captions.jsonl, one {"image": "path below images/", "caption": "text with #hashtags"} a line, and
       data/captions/synsets.txt, one WordNet synset a line: its name, then its lemmas between commas
"""

data_root = 'data/captions/'
data_preprocessor = dict(
    type='mm_graft.ChannelPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    non_blocking=True)  # bytes go to the device, which makes them numbers and normalizes them

train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=256,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mm_graft.RareTagSampler', power=0.5),  # inverse square root of a tag's frequency
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mm_graft.TaggedImages',
        data_root=data_root,
        ann_file='captions.jsonl',
        synsets='synsets.txt',
        data_prefix='images/',
        pipeline=train_pipeline))
