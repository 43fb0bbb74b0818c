"""The refiner around CamVid's ViT of 4 blocks of width 96: heads on its last two blocks."""

arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
data_preprocessor = dict(
    type='mm_graft.MultiCropPreprocessor',
    mean=[105.1, 108.5, 110.4],
    std=[77.0, 78.1, 77.0],
    to_rgb=True,
    size=(64, 64),
    scale=(0.2, 1.0),
    num_local=4,
    local_size=(32, 32),
    local_scale=(0.05, 0.2))

model = dict(
    type='mm_graft.MIMRefiner',
    momentum=None,  # the trained encoder goes on: an average over so few steps would be the encoder of the start
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mm_graft.GraftViT',
        arch=arch,
        img_size=112,
        patch_size=8,
        stop_grad_conv1=False,
        out_type='cls_token',
        out_indices=[2, 3]),
    head=dict(
        type='mm_graft.NNAHead',
        hid_channels=256,
        out_channels=64,
        predictor_channels=256,
        norm_cfg=dict(type='BN1d'),
        queue=dict(type='mm_graft.SupportQueue', length=256, num_neighbors=1),
        loss=dict(type='mm_graft.NNALoss', temperature=0.2, pairs='described')))
