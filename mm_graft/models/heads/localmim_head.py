"""LocalMIM's objective: at every scale the squared error where the image was hidden.

    ℓ_k = Σ_(b,t) M_k[b,t] · mean_d (pred - target)² / Σ_(b,t) M_k[b,t],   loss = Σ_k w_k · ℓ_k

M_k is the mask at the resolution of scale k: repeated where that is finer, averaged where it is coarser, so that a
token of which a quarter was hidden weighs a quarter. The sums run over the whole batch (of this process). Source:
Huawei's Efficient-Computing@225ddd2, ``models_mim.py``, with w_k = 1.
"""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mm_graft.registry import MODELS


def rescale_mask(mask: Tensor, num_tokens: int) -> Tensor:
    """The mask on a grid of ``num_tokens``, same aspect: bool (B, h, w) → (B, num_tokens) in [0, 1]."""
    height, width = mask.shape[1:]
    rows = math.isqrt(num_tokens * height // width)
    columns = num_tokens // max(rows, 1)
    weights = mask[:, None].float()
    if rows * columns != num_tokens or rows * width != columns * height:
        raise ValueError(f'{num_tokens} tokens form no grid with the aspect of a mask of {height}×{width}')
    if rows % height == 0:
        weights = F.interpolate(weights, scale_factor=rows // height, mode='nearest')
    elif height % rows == 0:
        weights = F.avg_pool2d(weights, height // rows)
    else:
        raise ValueError(f'a mask of {height}×{width} and a scale of {rows}×{columns} tokens: '
                         'one side must be a multiple of the other; change the scale or the mask')
    return weights.flatten(1)  # (B, 1, rows, columns) → (B, tokens)


def masked_error(pred: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """ℓ_k above. pred, target: (B, T, D); weights: (B, T). Zero if nothing was hidden."""
    error = (pred.to(target.dtype) - target).square().mean(dim=-1)  # (B, T)
    weights = weights.to(error.dtype)
    return (error * weights).sum() / weights.sum().clamp(min=1e-6)


@MODELS.register_module()
class LocalMIMHead(BaseModule):
    """The terms of the objective, by scale.

    Args:
        weights: w_k of every scale; None: all 1.
    """

    def __init__(self, weights: Sequence[float] | None = None):
        super().__init__()
        if weights is not None and (min(weights) < 0 or max(weights) == 0):
            raise ValueError(f'weights={list(weights)} must not be negative, and one must be positive')
        self.weights = None if weights is None else tuple(weights)

    def loss(self, preds: Sequence[Tensor | None], targets: Sequence[Tensor | None],
             mask: Tensor) -> dict[str, Tensor]:
        """The terms w_k·ℓ_k, ``loss_scale0``, …, of predictions and targets (B, T_k, D_k) and a mask (B, h, w).

        Their sum is what is optimized. A scale that is switched off (None) has the constant 0, so that the log does not
        repeat its last value.
        """
        weights = self.weights or (1., ) * len(preds)
        if not len(preds) == len(targets) == len(weights):
            raise ValueError(f'{len(preds)} predictions, {len(targets)} targets and {len(weights)} weights: '
                             'give neck, target and head the same number of scales')
        return {f'loss_scale{k}': weight * self._term(k, pred, target, mask)
                for k, (pred, target, weight) in enumerate(zip(preds, targets, weights))}

    def _term(self, scale: int, pred: Tensor | None, target: Tensor | None, mask: Tensor) -> Tensor:
        if pred is None or target is None:
            return torch.zeros((), device=mask.device)
        if pred.shape != target.shape:
            raise ValueError(f'scale {scale}: prediction {tuple(pred.shape)}, target {tuple(target.shape)}; tokens '
                             'follow from grid, `scales` and `cells`, the last size from `out_channels`')
        return masked_error(pred, target, rescale_mask(mask, pred.shape[1]))
