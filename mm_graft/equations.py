"""Equations that several rooms share."""

import math

import numpy as np
import torch
from torch import Tensor


def half_cosine(step: float, length: float) -> float:
    r"""Half a cosine, :math:`\frac12 (1 + \cos(\pi s / S))`: 1 at step 0, 0 at step ``length``."""
    return (1 + math.cos(math.pi * step / length)) / 2


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """At most ``count`` of the indices below ``total``, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; other types as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def off_diagonal_energy(features: Tensor) -> Tensor:
    r"""Sum of the squared off-diagonal elements of :math:`X^\top X / (N - 1)` for X (N, D); it is not centered here."""
    covariance = features.T @ features / (len(features) - 1)  # (D, D)
    return covariance.square().sum() - covariance.diagonal().square().sum()


def patchify(images: Tensor, side: int) -> Tensor:
    """Cut into patches: (B, C, H, W) → (B, (H/side)(W/side), side·side·C), channel fastest, then column, then row."""
    batch, channels, height, width = images.shape
    blocks = images.reshape(batch, channels, height // side, side, width // side, side)
    return blocks.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


def unpatchify(patches: Tensor, grid: tuple[int, int], channels: int) -> Tensor:
    """The inverse of :func:`patchify`: (B, rows·columns, side·side·C) → (B, C, rows·side, columns·side)."""
    rows, columns = grid
    side = math.isqrt(patches.shape[-1] // channels)
    blocks = patches.reshape(-1, rows, columns, side, side, channels)
    return blocks.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, rows * side, columns * side)
