"""LocalMIM's networks around a ViT-B: four taps and decoders, HOG with 9 bins (Efficient-Computing@225ddd2)."""

model = dict(
    type='mm_graft.LocalMIM',
    # taps after blocks 2, 4, n-2 and n
    backbone=dict(type='mm_graft.VisiblePatchViT', arch='base', img_size=224, patch_size=16, mask_ratio=0.75),
    neck=dict(
        type='mm_graft.LocalMIMNeck',
        in_channels=768,
        grids=14,
        scales=[4, 2, 1, 0.5],  # 56², 28², 14², 7²
        out_channels=27,  # 3 channels of 9 bins
        embed_dims=256,
        num_heads=8,
        depth=1),
    target_generator=dict(type='mm_graft.HOGTarget', nbins=9, cells=[4, 8, 16, 32]),
    head=dict(type='mm_graft.LocalMIMHead'))
