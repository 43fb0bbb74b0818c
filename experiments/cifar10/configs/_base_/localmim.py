"""LocalMIM around a ViT with patches of 4 on 32×32 images: Ti in ``full``, 6 blocks of width 64 in ``cpu``.

Three taps, a third of the blocks apart, with targets of 16², 8² and 4² cells: a fourth scale, as in the
paper, would have cells of one pixel.
"""

width = dict(full=192, cpu=64)['{{$CIFAR10_SCALE:full}}']
num_layers = dict(full=12, cpu=6)['{{$CIFAR10_SCALE:full}}']
num_heads = dict(full=3, cpu=2)['{{$CIFAR10_SCALE:full}}']
decoder_width = dict(full=96, cpu=32)['{{$CIFAR10_SCALE:full}}']

arch = dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width)
model = dict(
    type='mm_graft.LocalMIM',
    backbone=dict(
        type='mm_graft.LocalMIMViT',
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
