"""Weak supervision after MAE, ViT-B/16: hashtags, one learning rate for all layers.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Command:  tools/dist_train.sh configs/wsp/vit-b_mae2wsp.py 32
          ViT-L, from random weights, lower stages at a lower learning rate: the overrides in README.md
Needs:    data/captions/ (see configs/_base_/tagged_images.py); mae_pretrain_vit_base.pth of facebookresearch/mae, or
          configs/wsp/vit-b_mae_captions.py on the same images, or `--init FILE`
Devices:  32 GPUs × 256 images (our choice); time: not reported
Expected: linear 83.3, zero-shot 74.9 on ImageNet-1k after 3 billion images (the authors' model card, by their
          protocols); not run here
Recipe:   the paper's text, as far as it was at hand, fixes the order (MAE, then WSP), hashtags as WordNet synsets,
          cross-entropy and one epoch; batch, rate, decay and warm-up are the usual ones of hashtag pre-training
          for ViTs, not checked against the paper's appendix
"""

_base_ = ['../_base_/wsp_vit.py', '../_base_/tagged_images.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 1
warmup_epochs = 0.05
batch_size = 8192
lr = 4e-4
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/mae_pretrain_vit_base.pth'))


optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.1))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
