"""What every run shares: scope, hooks, environment, log.

The host's default hooks, and ours. All of them serve a run on one laptop as well as one on a cluster, so there is
no second file for clusters: Ctrl-C, a full disk, a bad image or a loss of NaN happen everywhere. On one process
PreemptionHook looks at a flag in each iteration (several processes reduce one byte every ten iterations),
NonFiniteGuardHook reads the norms of a step behind the device, RNGStateHook seeds generators in tens of microseconds,
and the others act when a file is written or the log is. To do without one: ``default_hooks.preemption=None``.
"""

default_scope = 'mmpretrain'

default_hooks = dict(
    runtime_info=dict(type='mm_graft.DeferredInfoHook'),  # losses are read from the device when they are logged
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook'),
    progress=dict(type='mm_graft.ProgressBarHook'),  # in a terminal
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mm_graft.SafeCheckpointHook', interval=1, max_keep_ckpts=3, save_last=True),  # whole or none
    sampler_seed=dict(type='DistSamplerSeedHook'),
    rng=dict(type='mm_graft.RNGStateHook'),  # a killed and resumed run ends with the same bits
    bad_images=dict(type='mm_graft.BadImagesHook'),  # corrupt images are counted and named
    preemption=dict(type='mm_graft.PreemptionHook'),  # Ctrl-C and the scheduler's signals save first
    non_finite=dict(type='mm_graft.NonFiniteGuardHook', patience=10))  # steps with NaN or inf are skipped

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
