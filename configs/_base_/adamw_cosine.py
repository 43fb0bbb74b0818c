"""AdamW with learning rates by depth in bf16, a linear warm-up, then half a cosine; a config adds the numbers."""

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW'))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop')
