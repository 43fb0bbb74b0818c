"""Fine-tuning ConMIM's ViT-B/16 on ImageNet-1k at 224 pixels.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Table 12
Command:  tools/dist_train.sh configs/conmim/benchmarks/vit-base-p16_conmim-pre_8xb128-amp-coslr-100e_in1k.py 8
          partial fine-tuning (Fig. 5): the override in README.md
Needs:    a pre-trained model, or `--init FILE`: of this package (its teacher is taken), or the authors'
          checkpoint_copy-N.pth with --cfg-options default_hooks.init.branch=base
Devices:  batch 1024; split over 8 devices (our choice for S and L); time: not reported
Expected: top-1 83.7 (paper, Table 1, by this recipe). Not run here
Differs:  the learning rate is that of the authors' command. They train in fp16 with DeepSpeed, here bf16.
"""

_base_ = ['../../_base_/conmim_finetune.py', '../../_base_/imagenet_finetune.py', '../../_base_/runtime.py']

max_epochs = 100
warmup_epochs = 20
lr = 4e-3
min_lr = 1e-6
layer_decay_rate = 0.65
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k/epoch_800.pth',
        branch='momentum'))

optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=layer_decay_rate))
param_scheduler = dict(
    type='mm_graft.WarmupCosineLR', warmup=warmup_epochs, min_ratio=min_lr / lr, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
