"""Do two losses of an mmseg model pull a ViT in different directions? Watched during training, block by block.

Base:     mmseg's vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py, whose losses are those of UperNet's head and of
          the auxiliary head
Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Eq. 3 and Fig. 1: the measure
Command:  tools/dist_train.sh configs/mixing/vit-base_upernet_conflict.py 8
Needs:    pretrain/vit_base_patch16_224.pth, as the base does (`model.pretrained`)
Devices:  8 GPUs × 2 images (the base's); time: not reported
Expected: nothing published; not run here beyond a step of a small model in the tests
"""

_base_ = 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py'

norm_cfg = dict(type='BN', requires_grad=True)  # on several GPUs: SyncBN, as the base has it

model = dict(decode_head=dict(norm_cfg=norm_cfg), auxiliary_head=dict(norm_cfg=norm_cfg))
custom_hooks = [
    dict(type='mm_graft.GradientConflictHook', losses=['decode.loss_ce', 'aux.loss_ce'], interval=500),
]
