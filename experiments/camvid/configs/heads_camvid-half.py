"""MIM-Refiner on CamVid's MAE, half size, stage i: the heads alone.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.camvid, or tools/train.py experiments/camvid/configs/heads_camvid-half.py after
          experiments/camvid/configs/mae_camvid-half.py
Devices:  one CPU core, a minute; see docs/segmentation.md
Data:     CamVid at 240 × 180 as data/camvid/{img_dir,ann_dir}/{train,val,test}
"""

_base_ = [
    '_base_/views.py',
    '_base_/refiner.py',
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
]

max_epochs = 10
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/mae_camvid-half/epoch_100.pth'),
    checkpoint=dict(interval=max_epochs),
    logger=dict(interval=11))

model = dict(train_encoder=False)

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=5e-4, betas=(0.9, 0.95), weight_decay=1e-5))
param_scheduler = dict(warmup=2, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
