"""Weak supervision grafted on MAE with FreezeOut, ViT-B/16: the lower layers annealed to a stop one by one.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Command:  tools/dist_train.sh configs/wsp/vit-b_mae2wsp_freezeout.py 32
Needs:    data/captions/ (see configs/_base_/tagged_images.py); mae_pretrain_vit_base.pth of facebookresearch/mae, or
          configs/graft/vit-b_mae.py on the same images, or `--init FILE`
Devices:  32 GPUs × 256 images (our choice); time: not reported
Expected: nothing published; not run here
Recipe:   the paper's text, as far as it was at hand, fixes the order (MAE, then WSP), hashtags as WordNet synsets,
          cross-entropy and one epoch; batch, rate, decay and warm-up are the usual ones of hashtag pre-training
          for ViTs, not checked against the paper's appendix
Note:     the stem stops after t0³ = 27.5 % of the epoch, block 12 with the run
"""

_base_ = ['../_base_/wsp_vit.py', '../_base_/tagged_images.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 1
warmup_epochs = 0.05
batch_size = 8192
lr = 4e-4
stage_lr_mult = [0.1, 0.1, 1.0]
t0 = 0.65  # before the cube
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))


optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult, by_depth=True))
param_scheduler = dict(
    type='mm_graft.FreezeOutLR',
    t0=t0,
    schedule='cubic',
    lr_scaling='unscaled',  # scaled would speed up the lower layers, which grafting wants slow
    warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
