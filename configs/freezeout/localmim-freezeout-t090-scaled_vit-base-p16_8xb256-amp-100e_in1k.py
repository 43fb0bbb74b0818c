"""LocalMIM with FreezeOut, ViT-B/16, 100 epochs: t0 = 0.9, cubic, scaled rates.

Papers:   Topcuoglu and Akagündüz, Local Masking Meets Progressive Freezing (arXiv 2312.02194), §3.2 and §4.1;
          Brock et al., FreezeOut (arXiv 1706.04983)
Source:   utkutpcgl/ViTFreeze@30e80f9, whose code differs from the text (see README.md)
Command:  tools/dist_train.sh configs/freezeout/localmim-freezeout-t090-scaled_vit-base-p16_8xb256-amp-100e_in1k.py 8
Devices:  not published
Expected: fine-tuned 82.79 (logs of ViTFreeze's code, weight decay 1e-5 by oversight); not run here
"""

_base_ = [
    '../_base_/localmim_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/freezeout_100e.py'
]

param_scheduler = dict(
    t0=0.9,  # before the cube: the stem trains for t0³ = 72.9% of the run
    rates='scaled')  # initial rate of a layer: base / t_i
train_dataloader = dict(batch_size=256)
default_hooks = dict(checkpoint=dict(interval=5))
