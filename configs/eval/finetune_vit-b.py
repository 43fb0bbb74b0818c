"""Fine-tuning a grafted ViT-B/16 on ImageNet-1k.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §A.5 and Table 3
Command:  tools/dist_train.sh configs/eval/finetune_vit-b.py 8
          partial fine-tuning: the override in README.md
Needs:    a checkpoint of a ViT in any layout that is known here, or `--init FILE`
Devices:  8 GPUs × 128 images (the authors, by their command); time: not reported
Expected: top-1 83.9; from MoCo v3 83.2 (paper, Table 3, by this recipe; its 83.6 for MAE is of MAE's own recipe); not
          run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
"""

_base_ = ['../_base_/finetune_graft.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
batch_size = 1024
base_lr = 5e-4  # per 256 images
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/graft_vit-b.pth.tar'))


optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.6, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=5, min_ratio=1e-6 / (base_lr * batch_size / 256))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
