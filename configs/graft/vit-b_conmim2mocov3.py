"""Layer grafting, ViT-B/16: MoCo v3 on top of ConMIM, lower stages at a lower learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), with ConMIM (arXiv 2205.09616)
          in MAE's place; neither paper has this combination
Command:  tools/dist_train.sh configs/graft/vit-b_conmim2mocov3.py 64
Needs:    configs/conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k.py, or `--init FILE`; its teacher is grafted.
          For the authors' checkpoint_copy-N.pth: --cfg-options default_hooks.init.branch=base
Devices:  as for MAE, 64 devices × 64 images
Expected: nothing published; not run here
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
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k/epoch_800.pth',
        branch='momentum'))  # the teacher

# The shared table of relative positions acts in every block. It learns with the last stage, where depth.py puts it.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mm_graft.ConMIMViT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='cls_token',
        with_mask_token=False,
        stop_grad_conv1=True))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
