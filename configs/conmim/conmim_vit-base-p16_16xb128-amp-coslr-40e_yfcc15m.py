"""ConMIM, ViT-B/16, 40 epochs of YFCC15M.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Table 9
Command:  tools/dist_train.sh configs/conmim/conmim_vit-base-p16_16xb128-amp-coslr-40e_yfcc15m.py 16
Needs:    the images of YFCC15M in any depth of sub-folders below data/yfcc15m; no labels are read
Devices:  16 GPUs, 128 images each, as for ImageNet-1k
Expected: fine-tuned 83.3 on ImageNet-1k (paper, Table 9; by the recipe of its Table 12); not run here
Differs:  the paper gives the epochs alone; all else is that of ImageNet-1k (Table 11), the warm-up in epochs too
"""

_base_ = ['../_base_/conmim_pretrain.py', '../_base_/imagenet_paired_views.py', '../_base_/runtime.py']

max_epochs = 40
warmup_epochs = 10

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/yfcc15m',
        with_label=False,
        pipeline=_base_.train_pipeline))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-13, by_epoch=True, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=1))
