"""Learning rates by stage in mmpretrain's BEiT: the lower third of the blocks slowly, as when it goes on from weights.

Base:     mmpretrain's beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py
Command:  tools/dist_train.sh configs/mixing/beit_vit-base_stage-lr.py 8
Devices:  8 GPUs × 256 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
Note:     the base's cosine ends at an absolute rate (eta_min), which would level the stages; this one ends at a share
"""

_base_ = 'mmpretrain::beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py'

optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor',
    # beside the base's own custom keys, of which one fits nothing: this BEiT has no absolute positions
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0, 1.0], custom_keys={'.pos_embed': None}))
param_scheduler = [
    dict(type='mm_graft.WarmupCosineLR', warmup=10, min_ratio=1e-5 / 1.5e-3, convert_to_iter_based=True)
]
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
