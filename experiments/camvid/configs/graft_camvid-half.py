"""MoCo v3 on top of CamVid's MAE, half size: the lower half of the blocks at a tenth of the learning rate.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  python -m experiments.camvid, or tools/train.py experiments/camvid/configs/graft_camvid-half.py after
          experiments/camvid/configs/mae_camvid-half.py
Devices:  one CPU core, minutes; see docs/segmentation.md
Data:     CamVid at 240 × 180 as data/camvid/{img_dir,ann_dir}/{train,val,test}
"""

_base_ = [
    '_base_/views.py',
    '../../demo/configs/_base_/mocov3.py',
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
]

max_epochs = 30
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae_camvid-half/epoch_100.pth'),
    checkpoint=dict(interval=max_epochs),
    logger=dict(interval=11))

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='mm_graft.TwoViewPreprocessor',
        mean=[105.1, 108.5, 110.4],
        std=[77.0, 78.1, 77.0],
        to_rgb=True,
        size=(64, 64),
        scale=(0.2, 1.0)),
    backbone=dict(arch=dict(num_layers=4), img_size=112, patch_size=8, in_channels=3))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=7.5e-4, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
param_scheduler = dict(warmup=4)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
