"""LocalMIM's decoders on mmpretrain's SimMIM Swin: HOG at four scales instead of pixels at one.

Base:     mmpretrain's simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py: data, masks, optimizer and schedule stay
Paper:    Wang et al., LocalMIM, CVPR 2023 (arXiv 2303.05251)
Command:  tools/dist_train.sh configs/mixing/simmim_swin-base_localmim-neck.py 8
Devices:  8 GPUs × 256 images (the base's); time: not reported
Expected: nothing published for 192 pixels; not run here beyond a step of a small model in the tests
"""

_base_ = 'mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py'

model = dict(
    type='mm_graft.DenseLocalMIM',
    backbone=dict(type='mm_graft.LocalMIMSwin', out_indices=[0, 1, 2, 3]),
    neck=dict(
        _delete_=True,
        type='mm_graft.LocalMIMDenseNeck',
        in_channels=[256, 512, 1024, 1024],  # after patch merging
        grids=[24, 12, 6, 6],
        scales=[1, 1, 1, 1],
        out_channels=54,
        embed_dims=[64, 128, 128, 128],
        num_heads=4,
        depth=1),
    target_generator=dict(type='mm_graft.HOGTarget', nbins=18, cells=[8, 16, 32, 32], random_bias=True),
    head=dict(_delete_=True, type='mm_graft.LocalMIMHead'))
