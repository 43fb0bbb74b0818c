"""Self-distillation around a ViT-S: three-layer head, 65,536 prototypes (facebookresearch/dino@7c446df)."""

model = dict(
    type='mm_graft.SelfDistillation',
    num_global_views=2,
    momentum=0.996,
    student_temperature=0.1,
    teacher_temperature=dict(start=0.04, end=0.04),
    targets=dict(type='mm_graft.Centering'),
    backbone=dict(
        type='mm_graft.GraftViT',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        stop_grad_conv1=False,  # the patch projection learns too
        drop_path_rate=0.1,
        out_type='raw'),
    head=dict(
        type='mm_graft.DINOHead',
        hid_channels=2048,
        bottleneck_channels=256,
        out_channels=65536))
custom_hooks = [
    dict(type='mm_graft.StageLRLoggerHook'),
    dict(type='mm_graft.HeldParametersHook', parts=['head.last_layer'], epochs=1),
]
