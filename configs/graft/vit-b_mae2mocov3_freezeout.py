"""Layer grafting with FreezeOut, ViT-B/16: MoCo v3 on top of MAE, the lower layers annealed to a stop one by one.

Papers:   Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.4, with
          Brock et al., FreezeOut (arXiv 1706.04983); neither has this combination
Command:  tools/dist_train.sh configs/graft/vit-b_mae2mocov3_freezeout.py 64
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae (or configs/graft/vit-b_mae.py), or `--init FILE`
Devices:  as for configs/graft/vit-b_mae2mocov3.py, less work an epoch as it goes on
Expected: nothing published; not run here
Note:     the stages' rates are those of the graft, each layer's cosine ends at its own time t_i: the stem at epoch 82,
          block 4 at 135, block 8 at 207, block 12 with the run. Check a result against a graft that stops earlier
"""

_base_ = [
    '../_base_/mocov3_vit.py',
    '../_base_/imagenet_two_views.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 300
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.1, 0.1, 1.0]
t0 = 0.65  # before the cube: the stem trains for t0³ = 27.5 % of the run
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))


optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult, by_depth=True))
param_scheduler = dict(
    type='mm_graft.FreezeOutLR',
    t0=t0,
    schedule='cubic',
    lr_scaling='unscaled',  # scaled would speed up the lower layers, which grafting wants slow
    warmup=warmup_epochs)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
