"""MIM-Refiner, ViT-L/16, stage i: the heads alone, on the frozen encoder of MAE.

Paper:    Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093)
Command:  tools/dist_train.sh configs/refiner/vit-l_mae_heads.py 16
Needs:    mae_pretrain_vit_large.pth of facebookresearch/mae, or `--init FILE`
Devices:  16 GPUs × 64 images (our choice); the authors' batch is 1024
Expected: nothing of its own: it gives stage ii a signal to start with; not run here
"""

_base_ = [
    '../_base_/refiner_vit.py',
    '../_base_/imagenet_multi_crop.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 20
warmup_epochs = 4
batch_size = 1024
base_lr = 2e-4  # per 256 images
lr = base_lr * batch_size / 256
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_large.pth'))

model = dict(
    train_encoder=False,
    momentum=None)  # of an encoder that does not train there is no average
train_dataloader = dict(batch_size=64)

optim_wrapper = dict(optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=1e-5))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
