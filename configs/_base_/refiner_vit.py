"""MIM-Refiner's heads on the last third of a ViT-L (ml-jku/MIM-Refiner@cc574235995e)."""

model = dict(
    type='mm_graft.MIMRefiner',
    num_global_views=2,
    backbone=dict(
        type='mm_graft.GraftViT',
        arch='large',
        img_size=224,
        patch_size=16,
        stop_grad_conv1=False,  # the patch projection learns too, as slowly as layer decay says
        out_type='cls_token',
        out_indices=list(range(16, 24))),  # the last one is read after the final norm
    head=dict(
        type='mm_graft.NNAHead',
        hid_channels=2048,
        out_channels=256,
        predictor_channels=4096,
        queue=dict(type='mm_graft.SupportQueue', length=65536, num_neighbors=1),
        loss=dict(type='mm_graft.NNALoss', temperature=0.2, pairs='published')))
