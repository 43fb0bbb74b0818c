"""UperNet on ADE20K at 512 pixels with ConMIM's encoder (paper, Table 13; BEiT's setup)."""

_base_ = ['./upernet_vit.py']

model = dict(
    backbone=dict(
        type='mm_graft.ConMIMViT',
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
        rel_pos_interpolation='bilinear',
        with_mask_token=False,
        layer_scale_init_value=0.1))  # overwritten by the checkpoint
# absolute positions only with `use_abs_pos_emb=True`
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(optional=True))))
