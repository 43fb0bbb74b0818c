"""What every run shares: scope, hooks, environment, log."""

default_scope = 'mmpretrain'

default_hooks = dict(
    runtime_info=dict(type='mm_graft.DeferredInfoHook'),  # losses are read when they are logged
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    progress=dict(type='mm_graft.ProgressBarHook'),  # in a terminal
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mm_graft.SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_last=True),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    rng=dict(type='mm_graft.RNGStateHook'),  # a killed and resumed run ends with the same bits
    bad_images=dict(type='mm_graft.BadImagesHook'),
    preemption=dict(type='mm_graft.PreemptionHook'),
    non_finite=dict(type='mm_graft.NonFiniteGuardHook', patience=10))

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
# masks and views must differ between the processes
randomness = dict(seed=0, diff_rank_seed=True)
