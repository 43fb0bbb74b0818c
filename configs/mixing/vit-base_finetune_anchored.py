"""An anchor against forgetting: mmpretrain's fine-tuning of MAE, with the lower eight blocks pulled to MAE's weights.

Base:     mmpretrain's mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py
Command:  tools/dist_train.sh configs/mixing/vit-base_finetune_anchored.py 8
Needs:    mae_pretrain_vit_base.pth of facebookresearch/mae, or `--init FILE`
Devices:  8 GPUs × 128 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
"""

_base_ = 'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py'

default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))

model = dict(backbone=dict(init_cfg=None))  # the hook loads it, in its authors' layout too
custom_hooks = [
    dict(type='mm_graft.WeightAnchor', weight=1e-4, max_depth=8, p=2),
]
