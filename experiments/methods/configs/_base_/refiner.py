"""The refiner around the demo's ViT of 6 blocks of width 96: two global views of 20 pixels, four local ones of 12."""

arch = dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384)
data_preprocessor = dict(
    type='mm_graft.MultiCropPreprocessor',
    mean=[73.0],
    std=[90.0],
    size=(20, 20),
    scale=(0.3, 1.0),
    jitter=(0.4, 0.4, 0.0, 0.0),
    blur_probability=(0.0, 0.0),
    solarize_probability=(0.0, 0.0),
    num_local=4,
    local_size=(12, 12),
    local_scale=(0.1, 0.3),
    local_blur_probability=0.0)

model = dict(
    type='mm_graft.MIMRefiner',
    momentum=None,  # the trained encoder is scored: an average over so few steps would be the encoder of the start
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mm_graft.GraftViT',
        arch=arch,
        img_size=28,
        patch_size=4,
        in_channels=1,
        stop_grad_conv1=False,
        out_type='cls_token',
        out_indices=[3, 4, 5]),
    head=dict(
        type='mm_graft.NNAHead',
        hid_channels=256,
        out_channels=64,
        predictor_channels=256,
        norm_cfg=dict(type='BN1d'),
        queue=dict(type='mm_graft.SupportQueue', length=4096, num_neighbors=1),
        loss=dict(type='mm_graft.NNALoss', temperature=0.2, pairs='described')))
