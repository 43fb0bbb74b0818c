"""Fine-tuning only the last blocks of ConMIM's ViT-B/16 (partial fine-tuning).

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Fig. 5
Command:  tools/dist_train.sh configs/conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e-partial_in1k.py 8
          another number of blocks, 0 … 11: --cfg-options model.backbone.frozen_stages=$((12 - BLOCKS)); all 12 of them
          are the fine-tuning of vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k.py
Needs:    a pre-trained model as `checkpoint`
Devices:  a batch of 1024; hours not stated
Expected: a curve, no numbers. Not run here
Differs:  the paper gives no settings for the figure; these are those of its full fine-tuning. Frozen blocks, and the
          stem before them, leave the backward pass.
"""

_base_ = ['../../_base_/conmim_finetune.py', '../../_base_/imagenet_finetune.py', '../../_base_/runtime.py']

max_epochs = 100
warmup_epochs = 20
lr = 4e-3
min_lr = 1e-6
tuned_blocks = 4
checkpoint = 'work_dirs/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k/epoch_800.pth'
branch = 'momentum'  # the EMA teacher

custom_hooks = [dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint, branch=branch)]
model = dict(backbone=dict(frozen_stages=12 - tuned_blocks))
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=min_lr / lr, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
