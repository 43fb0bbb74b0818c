"""Layer grafting, ViT-H/14: MoCo v3 on top of MAE, parameters, gradients and optimizer in one shard per device (FSDP2).

Paper:    after Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), which ends at ViT-L
Command:  tools/dist_train.sh configs/graft/vit-h_mae2mocov3_fsdp.py 64
Needs:    mae_pretrain_vit_huge.pth of facebookresearch/mae (ViT-H/14), or `--init FILE`
Devices:  64 GPUs × 32 images (our choice); time: not reported
Expected: nothing published; not run here
Note:     stages and anchor carry over from vit-l_mae2mocov3.py: four stages, as three do not divide 32 blocks, of which
          the lower two learn slowly and are anchored
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 300
warmup_epochs = 40
batch_size = 2048
base_lr = 1.5e-4  # of the upper stages, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0, 1.0]
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_huge.pth'))

runner_type = 'mm_graft.FullyShardedRunner'
model_wrapper_cfg = dict(param_dtype='bfloat16')  # blocks are gathered and computed in it; shards stay in fp32

model = dict(backbone=dict(arch='huge', patch_size=14), neck=dict(in_channels=1280))
train_dataloader = dict(batch_size=32)

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='mm_graft.StageLRLoggerHook'),
    # class token and the first 16 of 32 blocks
    dict(type='mm_graft.WeightAnchor', weight=1e-5, max_depth=16, p=1),
    dict(type='mm_graft.CheckpointBlocksHook'),  # recomputes within the units that are gathered, as with_cp would not
]
auto_scale_lr = dict(base_batch_size=batch_size)
