"""Fine-tuning ConMIM's ViT on ImageNet-1k at 384 pixels, after the fine-tuning at 224.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Table 12 and §5.1
Command:  tools/dist_train.sh configs/conmim/benchmarks/vit-p16_conmim-pre_amp-coslr_in1k-384px.py 16
          for ViT-S with the option size=small on 16 devices, for ViT-L with size=large on 32
Needs:    the fine-tuned model of the config at 224 pixels, or `--init FILE`; its classifier is taken too
Devices:  batch 1024; split over 16 or 32 devices (our choice); time: not reported
Expected: top-1 83.9 (S), 85.3 (B), 86.5 (L; 86.3 after 800 epochs) (paper, Tables 1 to 3, by this recipe). Not run here
Differs:  the paper adds 10 % of the epochs at 384 as BEiT does, and gives the same learning rates for both sizes
          without saying which; 1e-3, the lowest of them, and a warm-up of one epoch are ours. The relative positions
          are resized.
"""

_base_ = ['../../_base_/conmim_finetune.py', '../../_base_/imagenet_finetune.py', '../../_base_/runtime.py']

size = 'base'  # small, base or large
recipe = dict(
    small=dict(epochs=20, layer_decay=0.8, batch=64, width=384, run='8xb128-amp-coslr-200e_in1k/epoch_200'),
    base=dict(epochs=10, layer_decay=0.65, batch=64, width=768, run='8xb128-amp-coslr-100e_in1k/epoch_100'),
    large=dict(epochs=5, layer_decay=0.75, batch=32, width=1024, run='16xb64-amp-coslr-50e_in1k/epoch_50'),
)[size]
large = dict(drop_path_rate=0.2, layer_scale_init_value=1e-5) if size == 'large' else dict()
work_dir = f'work_dirs/vit-{size}-p16_conmim-pre_in1k-384px'

max_epochs = recipe['epochs']
warmup_epochs = 1
lr = 1e-3
min_lr = 1e-6
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint=f'work_dirs/vit-{size}-p16_conmim-pre_{recipe["run"]}.pth',
        parts=['head'],
        resize=True))

model = dict(backbone=dict(arch=size, img_size=384, **large), head=dict(in_channels=recipe['width']))
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
train_dataloader = dict(batch_size=recipe['batch'], dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=recipe['batch'], dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=recipe['layer_decay']))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=min_lr / lr, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
