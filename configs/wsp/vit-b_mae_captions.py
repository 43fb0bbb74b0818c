"""MAE on the images of the captions, ViT-B/16: pre-pretraining of any length, a tenth of an epoch too, before hashtags.

Paper:    Singh et al., The effectiveness of MAE pre-pretraining for billion-scale pretraining, ICCV 2023
          (arXiv 2303.13496)
Command:  tools/dist_train.sh configs/wsp/vit-b_mae_captions.py 32 --cfg-options num_images=100000000
          a tenth of an epoch: `epochs=0.1` beside it
Needs:    data/captions/images, of which every image is used, whatever its caption; num_images, how many they are
Devices:  32 GPUs × 128 images (our choice); time: not reported
Expected: the paper shows its gain over the length of pre-pretraining in a figure; no number at hand; not run here
Then:     tools/dist_train.sh configs/wsp/vit-b_mae2wsp.py 32 --init work_dirs/vit-b_mae_captions/iter_N.pth
Recipe:   MAE's (configs/graft/vit-b_mae.py); the paper's batch and rate were not at hand
"""

_base_ = ['../_base_/mae_vit.py', '../_base_/imagenet_mae.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

num_images = 10_000_000
epochs = 1.0  # need not be whole
batch_size = 4096
base_lr = 1.5e-4  # per 256 images
max_iters = round(num_images * epochs / batch_size)

train_dataloader = dict(
    batch_size=128,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='mm_graft.ImageFolder',
        data_root='data/captions/images',
        with_label=False,
        pipeline=_base_.train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.95), weight_decay=0.05))
param_scheduler = dict(
    by_epoch=False, convert_to_iter_based=False, warmup=round(0.05 * max_iters), end=max_iters)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=max(1, max_iters // 10)))
auto_scale_lr = dict(base_batch_size=batch_size)
