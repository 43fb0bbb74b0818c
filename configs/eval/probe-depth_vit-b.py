"""What a frozen block of a ViT-B/16 is worth: new blocks behind it, trained.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Table 5
Command:  tools/dist_train.sh configs/eval/probe-depth_vit-b.py 8
Needs:    a checkpoint of a ViT in any layout that is known here, or `--init FILE`
Devices:  8 GPUs × 128 images; time: not reported
Expected: top-1 after block 9: 78.1 (MoCo v3) and 77.8 (MAE) with one new block (paper, Table 5, by this recipe); not
          run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     other depths and numbers: `model.backbone.out_indices=[11] model.neck.num_blocks=2` is block 12 with two new
          ones. Without new blocks: mm_graft evaluate --protocols probe-depth. The new norm starts at 1 and 0; the
          authors load the pre-trained final norm
"""

_base_ = ['../_base_/finetune_graft.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 100
batch_size = 1024
base_lr = 5e-4  # per 256 images
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/graft_vit-b.pth.tar'))
block = 9
new_blocks = 1
model = dict(
    # all is frozen: what stands above the block is neither used nor trained, and no norm stands before the new blocks
    backbone=dict(
        frozen_stages=12, out_indices=[block - 1], out_type='raw', final_norm=False, drop_path_rate=0.0),
    neck=dict(type='mm_graft.NewBlocks', embed_dims=768, num_blocks=new_blocks, num_heads=12, drop_path_rate=0.1))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=1.0, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=5, min_ratio=1e-6 / (base_lr * batch_size / 256))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
