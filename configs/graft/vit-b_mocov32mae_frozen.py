"""CL→MIM grafting, ViT-B/16: MAE on top of MoCo v3, the lower two stages frozen and out of autograd.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), §2.3 and Table 1
Command:  tools/dist_train.sh configs/graft/vit-b_mocov32mae_frozen.py 8
Needs:    vit-b-300ep.pth.tar of facebookresearch/moco-v3 (or MoCo v3 of your own), or `--init FILE`
Devices:  not reported; as for configs/graft/vit-b_mae.py
Expected: linear 65.5, 1 % 32.5, fine-tuning 82.5 (paper, Table 1, by its protocols); the wrong order, that is the
          point; not run here
Note:     how many blocks the paper froze is not stated; its Figure 2 draws two of three stages. The upper blocks start
          from MoCo v3 too, the decoder is new, and the recipe is MAE's for 100 epochs
"""

_base_ = ['../_base_/mae_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
warmup_epochs = 40
batch_size = 4096
base_lr = 1.5e-4  # of the upper stage, per 256 images
stage_lr_mult = [0.0, 0.0, 1.0]  # 0 freezes
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/vit-b-300ep.pth.tar'))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(stage_lr_mult=stage_lr_mult))
param_scheduler = dict(warmup=warmup_epochs)
train_cfg = dict(max_epochs=max_epochs)
find_unused_parameters = True  # the model is wrapped before the stages are frozen
custom_hooks = [
    # position table and all: MoCo v3's is the transpose of MAE's, and the blocks know no other
    dict(type='mm_graft.StageLRLoggerHook'),
]
auto_scale_lr = dict(base_batch_size=batch_size)
