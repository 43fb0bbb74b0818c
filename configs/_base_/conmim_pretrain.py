"""ConMIM: networks, optimizer (TencentARC/ConMIM@4263955; paper, Table 11)."""

model = dict(
    type='mm_graft.ConMIM',
    backbone=dict(type='mm_graft.ConMIMViT', arch='base', img_size=224, patch_size=16, layer_scale_init_value=0.1),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_avg_pool=False,
        with_last_bn_affine=False,
        norm_cfg=dict(type='BN1d'),  # statistics of one device, as the authors
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02),
            dict(type='Constant', layer='_BatchNorm', val=1),
        ]),
    contrast=dict(type='mm_graft.DenoisingContrastLoss', temperature=0.1),
    mask_generator=dict(type='mm_graft.RandomCellMask', img_size=224, patch_size=16, cell_size=32, ratio=0.75),
    teacher=dict(momentum=0.996, end_momentum=1.0))

# The rate is absolute, not scaled by the batch. The host's warm-up cannot start at 0: 1e-13 of the rate does.
optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    # mask token and relative positions are decayed; biases, norms, layer scales, the class token and absolute positions
    # (`use_abs_pos_emb=True`) are not
    paramwise_cfg=dict(
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0, optional=True))))
auto_scale_lr = dict(base_batch_size=2048)
