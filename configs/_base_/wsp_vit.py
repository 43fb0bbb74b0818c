"""A ViT-B that classifies hashtags by one softmax (Singh et al., 2023)."""

num_labels = 28000  # lines of data/captions/synsets.txt

model = dict(
    type='mm_graft.WeaklySupervised',
    # position embedding frozen at MAE's table, patch projection trained
    backbone=dict(type='mm_graft.GraftViT', arch='base', img_size=224, patch_size=16, stop_grad_conv1=False),
    head=dict(
        type='LinearClsHead',
        num_classes=num_labels,
        in_channels=768,
        loss=dict(type='mm_graft.TagCrossEntropyLoss')))
