"""Weak supervision after MAE, ViT-2B/14: parameters, gradients and optimizer in one shard per device (FSDP2).

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Source:   facebookresearch/maws@cce939c for the sizes
Command:  tools/dist_train.sh configs/wsp/vit-2b_mae2wsp_fsdp.py 64
Needs:    data/captions/ (see configs/_base_/tagged_images.py); MAE of that size, such as vit_2b14.pt of
          facebookresearch/maws, or `--init FILE`
Devices:  64 GPUs × 64 images, accumulated twice (our choice); time: not reported
Expected: linear 88.1, zero-shot 82.1 on ImageNet-1k after 3 billion images (the authors' model card, by their
          protocols); not run here
Recipe:   as in vit-b_mae2wsp.py: usual values, not checked against the paper's appendix
"""

_base_ = ['../_base_/wsp_vit.py', '../_base_/tagged_images.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 1
warmup_epochs = 0.05
batch_size = 8192
lr = 4e-4
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/vit_2b14.pt'))

runner_type = 'mm_graft.FullyShardedRunner'
model_wrapper_cfg = dict(param_dtype='bfloat16')  # blocks are gathered and computed in it; shards stay in fp32

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=2560, num_layers=24, num_heads=32, feedforward_channels=10240),
        patch_size=14),
    head=dict(in_channels=2560))
train_dataloader = dict(batch_size=64)

optim_wrapper = dict(accumulative_counts=2, optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.1))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='mm_graft.CheckpointBlocksHook'),  # recomputes within the units that are gathered, as with_cp would not
]
auto_scale_lr = dict(base_batch_size=batch_size)
