"""LocalMIM around a ViT with patches of 4 on 32×32 images: 6 blocks of width 64.

Three taps, a third of the blocks apart, with targets of 16², 8² and 4² cells: a fourth scale, as in the
paper, would have cells of one pixel.
"""

width = 64
num_layers = 6
num_heads = 2
decoder_width = 32

arch = dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width)
model = dict(
    type='mm_graft.LocalMIM',
    backbone=dict(
        type='mm_graft.VisiblePatchViT',
        arch=arch,
        img_size=32,
        patch_size=4,
        taps=[num_layers // 3, 2 * num_layers // 3, num_layers],
        mask_ratio=0.75),
    neck=dict(
        type='mm_graft.LocalMIMNeck',
        in_channels=width,
        grids=8,
        scales=[2, 1, 0.5],  # 16², 8², 4²
        out_channels=27,  # 3 channels of 9 bins
        embed_dims=decoder_width,
        num_heads=4,
        depth=1),
    target_generator=dict(type='mm_graft.HOGTarget', nbins=9, cells=[2, 4, 8]),
    head=dict(type='mm_graft.LocalMIMHead'))
