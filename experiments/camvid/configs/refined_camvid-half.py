"""MIM-Refiner on CamVid's MAE, half size, stage ii: encoder and heads together.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  python -m experiments.camvid, or tools/train.py experiments/camvid/configs/refined_camvid-half.py after
          experiments/camvid/configs/heads_camvid-half.py
Devices:  one CPU core, minutes; see docs/segmentation.md
Data:     CamVid at 240 × 180 as data/camvid/{img_dir,ann_dir}/{train,val,test}
"""

_base_ = [
    '_base_/views.py',
    '_base_/refiner.py',
    '../../../configs/_base_/runtime.py',
    '../../../configs/_base_/adamw_cosine.py',
]

max_epochs = 20
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/heads_camvid-half/epoch_10.pth', parts=['heads']),
    checkpoint=dict(interval=max_epochs),
    logger=dict(interval=11))

model = dict(head=dict(queue=dict(num_neighbors=5)))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'heads': dict(decay_mult=1e-5 / 0.05),
        }))
param_scheduler = dict(warmup=2.5, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=32)
