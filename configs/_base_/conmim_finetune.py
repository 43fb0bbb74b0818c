"""Fine-tuning ConMIM at 224 pixels (TencentARC/ConMIM@4263955; paper, Table 12; BEiT's recipe)."""

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mm_graft.ConMIMViT',
        arch='base',
        img_size=224,
        patch_size=16,
        # the shared table is copied into every block
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
        with_mask_token=False,
        # the mean of the patch tokens, then a norm
        final_norm=False,
        out_type='avg_featmap',
        drop_path_rate=0.1,
        layer_scale_init_value=0.1),  # overwritten by the checkpoint
    neck=None,
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=[dict(type='TruncNormal', layer='Linear', std=2e-5, a=-2e-5, b=2e-5)]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0, optional=True))))
auto_scale_lr = dict(base_batch_size=1024)
