"""Blocks that an encoder and its average have in common run once for both: a speed-up that changes no number."""

import torch
from torch import Tensor, nn

from mm_graft.depth import block_counts, depth_in_backbone
from mm_graft.models.ema import CosineMomentumEMA


def encode_both(encoder: nn.Module, average: CosineMomentumEMA, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last outputs of an encoder and, without gradient, of its average, for the same images (B, C, H, W).

    A prefix that is frozen, and equal in both, runs once (encoders that split, such as ``mm_graft.GraftViT``). The
    encoder is the ``'backbone'`` that ``average`` follows (``HasMomentumEncoder.follow``), alone or followed by other
    modules.
    """
    averaged = average.module[0] if len(average.sources) > 1 else average.module
    depth = shared_depth(encoder, average)
    if depth < 0:
        output = encoder(images)[-1]
        with torch.no_grad():
            return output, averaged(images)[-1]
    blocks = min(depth, encoder.num_layers - 1)  # the last one is followed by the output
    tokens, grid = encoder.run_lower(images, blocks)
    output = encoder.run_upper(tokens, grid, blocks)[-1]
    with torch.no_grad():
        return output, averaged.run_upper(tokens, grid, blocks)[-1]


def shared_depth(encoder: nn.Module, average: CosineMomentumEMA) -> int:
    """Deepest depth (stem 0) up to which encoder and average are one and the same function; -1: none."""
    frozen = getattr(encoder, 'frozen_depth', -1)
    if frozen < 0 or average.moving is None:
        return -1
    counts, own = block_counts(encoder), '0.' if len(average.sources) > 1 else ''
    moving = (depth_in_backbone(name[len(own):], counts) for name in average.moving if name.startswith(own))
    return min(frozen, min(moving, default=frozen + 1) - 1)
