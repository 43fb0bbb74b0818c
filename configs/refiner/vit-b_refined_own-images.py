"""MIM-Refiner on a folder of your own unlabeled images, ViT-B/16 from MAE, one GPU; stage i by an override (README).

Paper:    the method of Alkin et al., MIM-Refiner, ICLR 2025 (arXiv 2402.10093), who publish no ViT-B
Command:  tools/train.py configs/refiner/vit-b_refined_own-images.py --cfg-options \
              train_dataloader.dataset.data_root=/path/to/images
Needs:    the last checkpoint of stage i, heads on mae_pretrain_vit_base.pth of facebookresearch/mae or on MAE trained
          on the images (configs/graft/vit-s_mae_own-images.py); or `--init FILE`
Devices:  one GPU of 24 GB or more; the rates are for a batch of 64, else use --auto-scale-lr
Expected: nothing is published for this setting; not run here
Note:     the queue should hold at most half of the images, and many more entries of each kind of image than the
          `num_neighbors` among which one is drawn. Images in any depth of sub-folders; no labels are read
"""

_base_ = [
    '../_base_/refiner_vit.py',
    '../_base_/imagenet_multi_crop.py',
    '../_base_/runtime.py',
    '../_base_/adamw_cosine.py',
]

max_epochs = 30
warmup_epochs = 4
batch_size = 64
base_lr = 4e-4  # per 256 images
lr = base_lr * batch_size / 256
default_hooks = dict(
    init=dict(
        type='mm_graft.LoadBackboneHook',
        checkpoint='work_dirs/vit-b_heads_own-images/epoch_20.pth',
        parts=['heads']))

model = dict(
    momentum=0.999,
    backbone=dict(arch='base', out_indices=[8, 9, 10, 11]),
    head=dict(queue=dict(length=4096, num_neighbors=5), loss=dict(pairs='described')))
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/own',
        with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'heads': dict(decay_mult=1e-5 / 0.05),
        }))
param_scheduler = dict(warmup=warmup_epochs, min_ratio=1e-6 / lr, from_zero=False)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]
auto_scale_lr = dict(base_batch_size=batch_size)
