"""MAE around a ViT-B: 75 % hidden, decoder of 8 blocks of width 512, standardized pixels (He et al., 2022)."""

model = dict(
    type='MAE',
    backbone=dict(type='mm_graft.MAEViT', arch='base', img_size=224, patch_size=16, mask_ratio=0.75),
    neck=dict(
        type='mm_graft.MAEPretrainDecoder',
        grid=14,
        patch_size=16,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16),
    head=dict(
        type='mm_graft.MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ])
