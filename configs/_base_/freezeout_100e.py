"""LocalMIM's 100 epochs at batch 2048 with cubic FreezeOut; the config that inherits this says t0 and rates."""

max_epochs = 100
batch_size = 2048
base_lr = 2e-4  # per 256 images
lr = base_lr * batch_size / 256

optim_wrapper = dict(
    type='mm_graft.AutocastOptimWrapper',
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.95), weight_decay=0.05),
    # decoders and tap norms follow the global cosine until their block freezes
    paramwise_cfg=dict(
        by_depth=True,
        custom_keys={
            'neck.': dict(global_rate=True),
            'tap_norms.': dict(global_rate=True)
        }))
param_scheduler = dict(
    type='mm_graft.FreezeOutLR', how='cubic', warmup=10, min_ratio=1e-6 / lr, convert_to_iter_based=True)
custom_hooks = [dict(type='mm_graft.FreezeOutHook')]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
