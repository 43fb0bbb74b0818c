"""LocalMIM with FreezeOut, ViT-B/16, 100 epochs: t0 = 0.8, cubic, scaled learning rates.

Papers:   Topcuoglu and Akagündüz, Local Masking Meets Progressive Freezing (arXiv 2312.02194), §3.2 and §4.1;
          Brock et al., FreezeOut (arXiv 1706.04983)
Source:   utkutpcgl/ViTFreeze@30e80f9, whose code differs from the text (see README.md)
Command:  tools/dist_train.sh configs/freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k.py 8
          other t0, unscaled rates, and the control without freezing: the overrides in README.md
Devices:  1 V100, 0.42 GPU hours an epoch against 0.48 without freezing (paper, Table 1)
Expected: fine-tuned 82.5 (paper, Table 2, by LocalMIM's recipe, of a run by their code with a weight decay of 1e-5,
          see README.md); not run here
"""

_base_ = ['../_base_/localmim_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
warmup_epochs = 10
batch_size = 2048
base_lr = 2e-4  # per 256 images
lr = base_lr * batch_size / 256
t0 = 0.8  # before the cube: the stem trains for t0³ = 51.2 % of the run

train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    # decoders and tap norms follow the global cosine until their block freezes
    paramwise_cfg=dict(
        by_depth=True, custom_keys={'neck.': dict(global_rate=True), 'tap_norms.': dict(global_rate=True)}))
param_scheduler = dict(
    type='mm_graft.FreezeOutLR',
    t0=t0,
    schedule='cubic',
    lr_scaling='scaled',  # initial learning rate of a layer: base / t_i
    warmup=warmup_epochs,
    min_ratio=1e-6 / lr)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
auto_scale_lr = dict(base_batch_size=batch_size)
