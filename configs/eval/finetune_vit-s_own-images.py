"""Fine-tuning a grafted ViT-S/16 on a folder of your own labeled images, one GPU.

Paper:    the method of Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138)
Command:  tools/train.py configs/eval/finetune_vit-s_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/labeled/train \
              val_dataloader.dataset.data_root=/path/to/labeled/val \
              model.head.num_classes=10 data_preprocessor.num_classes=10
Needs:    one folder a class, the same in train and val; a checkpoint of a ViT in any layout that is known here,
          or `--init FILE`
Devices:  one GPU of 16 GB or more; the learning rate is for a batch of 256, use --auto-scale-lr for others
Expected: nothing is published for this setting; not run here
"""

_base_ = ['../_base_/finetune_graft.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
batch_size = 256
lr = 5e-4  # per 256 images
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='work_dirs/vit-s_mae2mocov3_own-images/epoch_100.pth'))

data_preprocessor = dict(num_classes=10)
model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384, num_classes=10))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own_labeled/train',
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own_labeled/val',
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=lr * batch_size / 256, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.65, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=5, min_ratio=1e-6 / (lr * batch_size / 256))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
