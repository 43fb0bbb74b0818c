"""Fine-tuning a grafted ViT-L/16 on ImageNet-1k, by the authors' command.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Table 3
Command:  tools/dist_train.sh configs/eval/finetune_vit-l.py 8
          by the paper's text, and partial fine-tuning: the overrides in README.md
Needs:    a checkpoint of a ViT in any layout that is known here, or `--init FILE`
Devices:  8 GPUs × 64 images, accumulated over 2 steps (the authors, by their command); time: not reported
Expected: top-1 85.9; from MAE 85.9, from MoCo v3 84.1 (paper, Table 3, by its recipe, whose text and
          command differ, see Note; MAE's by MAE's own); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     the command has 50 epochs and layer decay 0.8; the paper says 100 and 0.6 for both sizes
"""

_base_ = ['../_base_/finetune_graft.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 50
batch_size = 1024
base_lr = 5e-4  # per 256 images
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/graft_vit-l.pth.tar'))

train_dataloader = dict(batch_size=64)
model = dict(backbone=dict(arch='large', drop_path_rate=0.2), head=dict(in_channels=1024))

optim_wrapper = dict(
    accumulative_counts=2,
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.8, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=5, min_ratio=1e-6 / (base_lr * batch_size / 256))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
