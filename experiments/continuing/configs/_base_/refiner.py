"""MIM-Refiner around a ViT-S/14 of the DINOv2 family: two global views of 42 pixels, four local ones of 28."""

mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
model = dict(
    type='mm_graft.MIMRefiner',
    momentum=None,  # the trained encoder is scored: an average over so few steps would be the encoder of the start
    data_preprocessor=dict(
        type='mm_graft.MultiCropPreprocessor', mean=mean, std=std, to_rgb=True, size=(42, 42), scale=(0.3, 1.0),
        blur_probability=(0.2, 0.0), num_local=4, local_size=(28, 28), local_scale=(0.1, 0.3),
        local_blur_probability=0.0),
    backbone=dict(
        type='mm_graft.GraftViT', arch='deit-small', img_size=42, patch_size=14, layer_scale_init_value=1e-5,
        stop_grad_conv1=False, out_type='cls_token', out_indices=[8, 9, 10, 11]),
    head=dict(
        type='mm_graft.NNAHead', hid_channels=1024, out_channels=128, predictor_channels=1024,
        norm_cfg=dict(type='BN1d'), queue=dict(type='mm_graft.SupportQueue', length=512, num_neighbors=1),
        loss=dict(type='mm_graft.NNALoss', temperature=0.2, pairs='described')))
