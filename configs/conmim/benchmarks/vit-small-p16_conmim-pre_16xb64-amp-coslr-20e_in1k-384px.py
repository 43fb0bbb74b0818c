"""Fine-tuning ConMIM's ViT-S/16 on ImageNet-1k at 384 pixels, after 200 epochs at 224.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Table 12 and §5.1
Command:  tools/dist_train.sh configs/conmim/benchmarks/vit-small-p16_conmim-pre_16xb64-amp-coslr-20e_in1k-384px.py 16
Needs:    the fine-tuned model of vit-small-p16_conmim-pre_8xb128-amp-coslr-200e_in1k.py, or
          `--init FILE`; its classifier is taken too
Devices:  batch 1024; split over 16 devices (our choice); time: not reported
Expected: top-1 83.9 (paper, Table 2). Not run here
Differs:  the paper adds 10 % of the epochs at 384 as BEiT does, and gives the same learning rates for both sizes
          without saying which; 1e-3, the lowest of them, and a warm-up of one epoch are ours. The relative positions
          are resized.
"""

_base_ = ['../../_base_/conmim_finetune.py', '../../_base_/imagenet_finetune.py', '../../_base_/runtime.py']

max_epochs = 20
warmup_epochs = 1
lr = 1e-3
min_lr = 1e-6
layer_decay_rate = 0.8
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/vit-small-p16_conmim-pre_8xb128-amp-coslr-200e_in1k/epoch_200.pth',
        parts=['head'],
        resize=True))

model = dict(
    backbone=dict(
        arch='small',
        img_size=384),
    head=dict(in_channels=384))
train_pipeline = [
    dict(type='mm_graft.TolerantLoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=384, backend='pillow', interpolation='bicubic'),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type='mm_graft.LoadImageFromFile'),
    dict(type='ResizeEdge', scale=384, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=384),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=layer_decay_rate))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=min_lr / lr, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
