"""An encoder out of a config and a checkpoint of any layout, ready to be looked at: no patch hidden, eval mode."""

import inspect
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mm_graft.checkpoints import load_backbone
from mm_graft.depth import find_backbone


class Encoder(nn.Module):
    """A backbone with the normalisation it was trained with.

    Args:
        backbone: a ViT.
        mean: per channel (RGB), in 0…255.
        std: per channel (RGB), in 0…255.
    """

    def __init__(self, backbone: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        hides = 'mask' in inspect.signature(backbone.forward).parameters
        self.encode = partial(backbone, mask=None) if hides else backbone

    def normalise(self, pixels: Tensor) -> Tensor:
        """Images (B, C, H, W) in 0…255, RGB → what the backbone expects, on its device."""
        return (pixels.to(self.mean) - self.mean) / self.std

    def forward(self, pixels: Tensor) -> object:
        """The backbone's output for whole images (B, C, H, W) in 0…255, RGB."""
        return self.encode(self.normalise(pixels))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        vit = find_backbone(self.backbone)[1]
        return tuple(getattr(vit, 'patch_resolution', None) or vit.patch_embed.grid_size)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        embedding = find_backbone(self.backbone)[1].patch_embed
        return (embedding.projection if hasattr(embedding, 'projection') else embedding.proj).kernel_size[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that the grid covers."""
        return tuple(side * self.patch_size for side in self.grid)

    def patch_tokens(self, pixels: Tensor) -> Tensor:
        """Patch tokens (B, N, D) of the last block, after the final norm, of images in 0…255."""
        vit = find_backbone(self.backbone)[1]
        if hasattr(vit, 'forward_features'):
            tokens = vit.forward_features(self.normalise(pixels))
        else:
            kind, vit.out_type = vit.out_type, 'raw'
            try:
                tokens = self(pixels)[-1]
            finally:
                vit.out_type = kind
        return tokens[:, -self.grid[0] * self.grid[1]:]


def preprocessor_config(cfg: Config) -> dict:
    """The settings of a config's data preprocessor."""
    return dict(cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})


def load_encoder(cfg: Config, checkpoint: str | Path, branch: str = 'base') -> Encoder:
    """The encoder of a config with the weights of a checkpoint, completely or not at all.

    Args:
        cfg: with ``model.backbone``.
        checkpoint: of any layout that :mod:`mm_graft.checkpoints` knows.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder.

    Raises:
        mm_graft.checkpoints.CheckpointError: the file does not fit.
        ValueError: the config has no backbone.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if cfg.get('model', {}).get('backbone') is None:
        raise ValueError('the config has no `model.backbone`; give a pre-training or classification config')
    backbone = MODELS.build({key: value for key, value in cfg.model.backbone.items() if key != 'init_cfg'})
    load_backbone(backbone, checkpoint, branch=branch)
    settings = preprocessor_config(cfg)
    encoder = Encoder(backbone, settings.get('mean') or [0.0], settings.get('std') or [1.0])
    encoder.eval()
    return encoder
