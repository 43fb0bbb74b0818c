"""MAE around a ViT with patches of 4 on 32×32 images: 6 blocks of width 64."""

width = 64
num_layers = 6
num_heads = 2
decoder_width = 48
decoder_depth = 1

arch = dict(embed_dims=width, num_layers=num_layers, num_heads=num_heads, feedforward_channels=4 * width)
xavier = [
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
]
decoder = dict(
    type='mm_graft.MAEPretrainDecoder',
    grid=8,
    patch_size=4,
    embed_dim=width,
    decoder_embed_dim=decoder_width,
    decoder_depth=decoder_depth,
    decoder_num_heads=4)
pixel_head = dict(
    type='mm_graft.MAEPretrainHead',
    norm_pix=False,  # standardized patches want longer runs
    patch_size=4,
    loss=dict(type='PixelReconstructionLoss', criterion='L2'))
model = dict(
    type='MAE',
    backbone=dict(type='mm_graft.MAEViT', arch=arch, img_size=32, patch_size=4, mask_ratio=0.75),
    neck=decoder,
    head=pixel_head,
    init_cfg=xavier)
