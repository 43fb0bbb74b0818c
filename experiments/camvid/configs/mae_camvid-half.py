"""MAE on the 367 training images of CamVid, half size: what the segmentation run starts from.

Paper:    the method of He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022 (arXiv 2111.06377)
Command:  tools/train.py experiments/camvid/configs/mae_camvid-half.py
Devices:  one CPU core, minutes; see docs/segmentation.md
Data:     CamVid at 240 × 180 as data/camvid/{img_dir,ann_dir}/{train,val,test}
"""

_base_ = ['_base_/mae.py', '../../../configs/_base_/runtime.py', '../../../configs/_base_/adamw_cosine.py']

max_epochs = 100
lr = 1.5e-3

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(warmup=5)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs), logger=dict(interval=22))
auto_scale_lr = dict(base_batch_size=16)
