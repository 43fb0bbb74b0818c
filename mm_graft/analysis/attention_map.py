"""Where an encoder looks: attention weights of any ViT, and the class token's as a picture (ConMIM Fig. 3)."""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mm_graft.analysis.gallery import draw_rows
from mm_graft.equations import at_least_float32


class _AttentionCalls(TorchFunctionMode):
    """Notes the arguments of every scaled dot-product attention while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor | None, float]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, _, bias, *_ = (*args, *[None] * (4 - len(args)))
            bias = kwargs.get('attn_mask', bias)
            self.calls.append((query, key, bias, kwargs.get('scale') or query.shape[-1]**-0.5))
        return func(*args, **kwargs)


def weights_of_call(query: Tensor, key: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale · q kᵀ + bias) of queries and keys (B, heads, N, d): (B, heads, N, N), in float32 or better."""
    logits = at_least_float32(query) @ at_least_float32(key).transpose(-2, -1) * scale
    if bias is None:
        return logits.softmax(-1)
    if bias.dtype == torch.bool:
        return logits.masked_fill(~bias, float('-inf')).softmax(-1)
    return (logits + bias).softmax(-1)


@torch.no_grad()
def attention_calls(encode: Callable[[Tensor], object], images: Tensor) -> list[tuple]:
    """Arguments of :func:`weights_of_call` for every attention of one forward, in its order."""
    with _AttentionCalls() as noted:
        encode(images)
    if not noted.calls:
        raise ValueError('the encoder called fused attention 0 times; choose an encoder that uses '
                         'scaled_dot_product_attention')
    return noted.calls


@torch.no_grad()
def attention_weights(encode: Callable[[Tensor], object], images: Tensor, block: int = -1) -> Tensor:
    """Attention weights (B, heads, N, N) of one block; each row, a query, sums to 1.

    Works on every encoder that calls torch's fused attention: mmpretrain's ViTs, timm's, this package's.

    Args:
        encode: the encoder, or a function that calls it; in eval mode, or drop path will be in the weights.
        images: (B, 3, H, W), normalized.
        block: which call of attention in the forward, from 0; negative from the end.
    """
    calls = attention_calls(encode, images)
    if not -len(calls) <= block < len(calls):
        raise ValueError(f'the encoder called fused attention {len(calls)} times, so there is no block {block}; '
                         'choose a block within')
    return weights_of_call(*calls[block])


def class_attention_maps(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much the class token attends to each patch, mean over the heads: (B, heads, 1 + N, 1 + N) → (B, h, w).

    The patches of an image sum to 1; what the class token gives to itself is left out, as in the paper's picture.
    """
    if weights.shape[-1] != grid[0] * grid[1] + 1:
        raise ValueError(f'{weights.shape[-1]} tokens are not a class token and {grid[0]} × {grid[1]} patches; '
                         'give the grid of the encoder')
    maps = weights[:, :, 0, 1:].mean(1)
    return (maps / maps.sum(-1, keepdim=True)).unflatten(-1, grid)


def draw_attention_maps(images: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """Images (B, H, W, 3) of uint8, and below each its maps (B, h, w) of each model."""
    return draw_rows({'image': images, **maps}, side=2)
