"""Weak supervision after MAE, ViT-B/16, from tar shards: images and captions that no disk holds as files.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Command:  tools/dist_train.sh configs/wsp/vit-b_mae2wsp_shards.py 32
          shards of a store: `shards='pipe:aws s3 cp s3://bucket/{000000..009999}.tar -'`, a copy of each in `cache_dir`
Needs:    tar files of KEY.jpg beside KEY.txt or KEY.json, data/captions/synsets.txt, webdataset;
          mae_pretrain_vit_base.pth of facebookresearch/mae, or `--init FILE`
Devices:  32 GPUs × 256 images (our choice); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
Recipe:   that of vit-b_mae2wsp.py, except that every image is shown once an epoch: `mm_graft.RareTagSampler` would
          jump between shards
"""

_base_ = ['../_base_/wsp_vit.py', '../_base_/tagged_images.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

shards = 'data/captions/shards/{000000..000999}.tar'  # paths, https://… or pipe:COMMAND
cache_dir = 'data/captions/cache'  # of the index of labels, and of shards that are no local files
cache_bytes = 500 * 2**30
max_epochs = 1
warmup_epochs = 0.05
batch_size = 8192
lr = 4e-4
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

train_dataloader = dict(
    sampler=dict(_delete_=True, type='mm_graft.ShardSampler', mixed=4),
    dataset=dict(
        _delete_=True,
        type='mm_graft.TaggedShards',
        shards=shards,
        data_root=_base_.data_root,
        synsets='synsets.txt',
        cache_dir=cache_dir,
        cache_bytes=cache_bytes,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.1))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
