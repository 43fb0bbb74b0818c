"""LocalMIM around the demo's ViT of 6 blocks of width 96: taps in the middle and at the end, 14² and 7² cells."""

model = dict(
    type='mm_graft.LocalMIM',
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[73.0], std=[90.0]),
    backbone=dict(
        type='mm_graft.VisiblePatchViT',
        arch=dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384),
        img_size=28,
        patch_size=4,
        patch_cfg=dict(in_channels=1),
        taps=[3, 6],
        mask_ratio=0.75),
    neck=dict(
        type='mm_graft.LocalMIMNeck',
        in_channels=96,
        grids=7,
        scales=[2, 1],
        out_channels=9,  # bins of one channel
        embed_dims=64,
        num_heads=2,
        depth=1),
    target_generator=dict(type='mm_graft.HOGTarget', nbins=9, cells=[2, 4]),
    head=dict(type='mm_graft.LocalMIMHead'))
