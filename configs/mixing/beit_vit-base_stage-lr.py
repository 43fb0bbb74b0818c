"""Learning rates by stage in mmpretrain's BEiT: the lower third of the blocks slowly, as when it goes on from weights.

Base:     mmpretrain's beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py
Command:  tools/dist_train.sh configs/mixing/beit_vit-base_stage-lr.py 8
Devices:  8 GPUs × 256 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
Note:     the base's cosine ends at an absolute rate (eta_min), which would level the stages; this one ends at a share.
          Beside ConMIM (Table 10 of its paper): `mm_graft benchmark step CONFIG --vs` this
"""

_base_ = 'mmpretrain::beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py'

no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    _delete_=True,
    type='mm_graft.AutocastOptimWrapper',  # bf16 as the other methods here, on a CPU too; the base has fp16 on GPUs
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    # the base's custom keys, without one that fits nothing: this BEiT has no absolute positions
    paramwise_cfg=dict(
        stage_lr_mult=[0.1, 1.0, 1.0],
        custom_keys={
            '.ln': no_decay, '.bias': no_decay, 'q_bias': no_decay, 'v_bias': no_decay, '.cls_token': no_decay,
            '.gamma': no_decay}))
param_scheduler = [
    dict(type='mm_graft.WarmupCosineLR', warmup=10, min_ratio=1e-5 / 1.5e-3, convert_to_iter_based=True)
]
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
