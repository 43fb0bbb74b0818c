"""FreezeOut in mmpretrain's SimMIM: the blocks of a Swin are annealed to a stop, one by one.

Base:     mmpretrain's simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py; only the schedule is another
Paper:    Brock et al., FreezeOut (arXiv 1706.04983)
Command:  tools/dist_train.sh configs/mixing/simmim_swin-base_freezeout.py 8
Devices:  8 GPUs × 256 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
"""

_base_ = 'mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py'

data_preprocessor = dict(type='mm_graft.ChannelPreprocessor', non_blocking=True)  # the same, without waiting
optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',  # bf16 without a scaler
    constructor='mm_graft.GraftOptimWrapperConstructor',
    paramwise_cfg=dict(by_depth=True, custom_keys=dict(absolute_pos_embed=None)))  # which this Swin does not have
# in the place of the base's warm-up and cosine: FreezeOut has both
param_scheduler = [
    dict(type='mm_graft.FreezeOutLR', t0=0.8, schedule='cubic', warmup=10, min_ratio=0.0125, convert_to_iter_based=True)
]
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
