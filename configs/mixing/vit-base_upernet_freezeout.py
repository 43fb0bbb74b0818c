"""FreezeOut in an mmseg fine-tuning: UperNet on a ViT-B whose lower blocks stop training first.

Base:     mmseg's vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py
Paper:    Brock et al., FreezeOut (arXiv 1706.04983)
Command:  tools/dist_train.sh configs/mixing/vit-base_upernet_freezeout.py 8
Needs:    pretrain/vit_base_patch16_224.pth, as the base does (`model.pretrained`)
Devices:  8 GPUs × 2 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
"""

_base_ = 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py'

max_iters = 80000
norm_cfg = dict(type='BN', requires_grad=True)  # on several GPUs: SyncBN, as the base has it

model = dict(decode_head=dict(norm_cfg=norm_cfg), auxiliary_head=dict(norm_cfg=norm_cfg))
optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor',
    # the base's key `norm` fits nothing: mmseg's ViT calls its norms ln1 and ln2, and vectors are not decayed here
    paramwise_cfg=dict(by_depth=True, custom_keys=dict(norm=None)))
param_scheduler = [
    dict(
        type='mm_graft.FreezeOutLR', t0=0.5, schedule='linear', lr_scaling='unscaled', warmup=1500,
        end=max_iters, by_epoch=False)
]
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
