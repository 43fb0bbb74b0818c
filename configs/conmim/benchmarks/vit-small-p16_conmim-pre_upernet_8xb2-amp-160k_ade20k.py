"""UperNet on ADE20K with ConMIM's ViT-S/16.

Paper:    Yi et al., Masked Image Modeling with Denoising Contrast, ICLR 2023 (arXiv 2205.09616), Table 13 and §5.2
Command:  tools/dist_train.sh configs/conmim/benchmarks/vit-small-p16_conmim-pre_upernet_8xb2-amp-160k_ade20k.py 8
Needs:    the model fine-tuned on ImageNet; without intermediate fine-tuning the pre-trained one (its EMA teacher) by
          --init FILE --cfg-options default_hooks.init.branch=momentum, or the authors'
          checkpoint_copy-N.pth, which is the teacher, without the branch
Devices:  batch 16; time: not reported
Expected: mIoU 47.7 after 300 epochs (paper, Table 4, by this recipe). Not run here
Differs:  the paper chooses the learning rate among 1e-5, 3e-5, 5e-5 and 7e-5 and does not say which; 3e-5 is ours, as
          are the width of the heads and the tapped blocks (BEiT's). Relative positions are resized bilinearly, as it
          says.
"""

_base_ = ['../../_base_/conmim_upernet.py']

lr = 3e-5
layer_decay_rate = 0.9
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/vit-small-p16_conmim-pre_8xb128-amp-coslr-200e_in1k/epoch_200.pth',
        resize=True))

model = dict(
    backbone=dict(arch='small'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384] * 4, channels=384),
    auxiliary_head=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay_rate=layer_decay_rate))
