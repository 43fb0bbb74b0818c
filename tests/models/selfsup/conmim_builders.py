"""A tiny ConMIM for the tests."""

import torch
from mmpretrain.registry import MODELS

TINY = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


def config(**changes) -> dict:
    cfg = {
        'type': 'mm_graft.ConMIM',
        'backbone': {'type': 'mm_graft.ConMIMViT', 'arch': TINY, 'img_size': 32, 'patch_size': 8},
        'neck': {
            'type': 'NonLinearNeck', 'in_channels': 16, 'hid_channels': 32, 'out_channels': 8, 'num_layers': 3,
            'with_avg_pool': False, 'with_last_bn_affine': False, 'norm_cfg': {'type': 'BN1d'}
        },
        'contrast': {'type': 'mm_graft.DenoisingContrastLoss'},
        'mask_generator': {'type': 'mm_graft.RandomCellMask', 'img_size': 32, 'patch_size': 8, 'cell_size': 16},
        'teacher': {'momentum': 0.9, 'max_iters': 10},
    }
    return {**cfg, **changes}


PLAIN = {'type': 'VisionTransformer', 'arch': TINY, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw'}
TIMM = {'type': 'mm_graft.TimmViT', 'model_name': 'vit_small_patch14_reg4_dinov2', 'depth': 4, 'embed_dim': 16,
        'num_heads': 2, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw', 'with_mask_token': True}


def build(**changes):
    torch.manual_seed(0)
    model = MODELS.build(config(**changes))
    model.init_weights()
    return model.train()
