"""Builders shared by the parity tests: everything in double precision, every size read from the files."""

import numpy as np
import torch
from mmpretrain.registry import MODELS

from mm_graft.checkpoints.names import VIT, NameMap

to_host = NameMap(VIT).to_host

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)


def to_input(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 → (N, 3, H, W) float64, normalized."""
    pixels = torch.from_numpy(images).double().div(255).permute(0, 3, 1, 2)
    return (pixels - MEAN) / STD


def vit_arch(cfg: dict) -> dict:
    """Arch of the encoder that a golden file describes."""
    width = int(cfg['cfg_embed_dim'])
    return {'embed_dims': width, 'num_layers': int(cfg['cfg_depth']), 'num_heads': int(cfg['cfg_num_heads']),
            'feedforward_channels': int(width * float(cfg['cfg_mlp_ratio']))}


def graft_model(cfg: dict) -> torch.nn.Module:
    """The grafted MoCo v3 of a golden file, in double precision."""
    hidden, out, temperature = int(cfg['cfg_proj_hidden']), int(cfg['cfg_proj_out']), float(cfg['cfg_temperature'])
    mlp = dict(type='NonLinearNeck', hid_channels=hidden, out_channels=out, with_bias=False, with_last_bn=True,
               with_last_bn_affine=False, with_last_bias=False, with_avg_pool=False)
    return MODELS.build(dict(
        type='mm_graft.GraftedMoCoV3',
        backbone=dict(type='mm_graft.GraftViT', arch=vit_arch(cfg), img_size=int(cfg['cfg_img']),
                      patch_size=int(cfg['cfg_patch'])),
        neck=dict(**mlp, in_channels=int(cfg['cfg_embed_dim']), num_layers=3),
        head=dict(type='MoCoV3Head', temperature=temperature,
                  loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
                  predictor=dict(**mlp, in_channels=out, num_layers=2)))).double()


def graft_name(official: str) -> str:
    """Name in our model of a parameter or buffer of the authors' MoCo v3."""
    official = official.removeprefix('module.')
    where, _, name = official.partition('.')
    if where == 'predictor':
        return 'head.predictor.' + _mlp_name(name, {0: 'fc0', 1: 'bn0', 3: 'fc1', 4: 'bn1'})
    encoder, projector = {'base_encoder': ('backbone.', 'neck.'),
                          'momentum_encoder': ('momentum_encoder.module.0.', 'momentum_encoder.module.1.')}[where]
    if name.startswith('head.'):
        return projector + _mlp_name(name[5:], {0: 'fc0', 1: 'bn0', 3: 'fc1', 4: 'bn1', 6: 'fc2', 7: 'bn2'})
    return encoder + to_host(name)


def _mlp_name(name: str, layers: dict[int, str]) -> str:
    index, _, tensor = name.partition('.')
    return f'{layers[int(index)]}.{tensor}'
