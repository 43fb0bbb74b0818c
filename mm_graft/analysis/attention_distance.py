"""How far the heads of an encoder look, in pixels (paper Fig. 7; Dosovitskiy et al., 2021)."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mm_graft.analysis.attention_map import attention_calls, weights_of_call


class AttentionDistances(NamedTuple):
    """Means over the queries, in pixels."""

    distance: Tensor  #: (blocks, images, heads)
    mass_on_extra: Tensor  #: weight that patches put on class and other extra tokens, and that is left out, same shape

    @property
    def per_block(self) -> Tensor:
        """Mean over images and heads, (blocks, )."""
        return self.distance.mean((1, 2))

    @property
    def per_head(self) -> Tensor:
        """Mean over images, (blocks, heads)."""
        return self.distance.mean(1)


def patch_distances(grid: tuple[int, int], patch_size: int) -> Tensor:
    """Euclidean distance in pixels between the patches of a grid, (N, N), rows first."""
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing='ij')
    places = torch.stack([rows.flatten(), columns.flatten()], 1) * patch_size  # (N, 2)
    return torch.cdist(places, places, compute_mode='donot_use_mm_for_euclid_dist')


def mean_distance(weights: Tensor, distances: Tensor) -> Tensor:
    """Mean distance at which the patches look, (B, heads), for attention (B, heads, E + N, E + N) and distances (N, N).

    The rows and columns of extra tokens (those before the last N) are dropped and the rest is **not** scaled up to 1
    again, as in the authors' code (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``, ``utils/eval_attn_dist.py``).
    """
    num_patches = len(distances)
    if weights.shape[-1] < num_patches:
        raise ValueError(f'{weights.shape[-1]} tokens attend to each other, the grid has {num_patches} patches; give '
                         'the grid of the encoder, and an encoder without windows and with no patch hidden')
    between = weights[..., -num_patches:, -num_patches:]
    return (between * distances.to(between)).sum(-1).mean(-1)


@torch.no_grad()
def attention_distances(encode: Callable[[Tensor], object], batches: Iterable[Tensor], grid: tuple[int, int],
                        patch_size: int) -> AttentionDistances:
    """Attention distance of every head and block, over batches of normalized images (B, 3, H, W).

    ``encode`` is the encoder, or calls it with no patch hidden. The authors run theirs in training mode by mistake
    (``model.train()``); give one in eval mode.
    """
    distances = patch_distances(grid, patch_size)
    found, lost = [], []
    for images in batches:
        weights = [weights_of_call(*call) for call in attention_calls(encode, images)]
        found.append(torch.stack([mean_distance(block, distances).cpu() for block in weights]))
        extra = weights[0].shape[-1] - len(distances)
        lost.append(torch.stack([block[..., extra:, :extra].sum(-1).mean(-1).cpu() for block in weights]))
    if not found:
        raise ValueError('there are no images to look at; give some')
    return AttentionDistances(torch.cat(found, 1), torch.cat(lost, 1))  # (blocks, B, heads), images joined


def draw_attention_distance(per_head: dict[str, np.ndarray]) -> Figure:
    """Mean distance over the blocks as a line, every head (blocks, heads) as a dot, one color a model."""
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for label, distances in per_head.items():
        blocks = np.arange(1, len(distances) + 1)
        line, = axes.plot(blocks, distances.mean(1), marker='o', markersize=4, label=label)
        axes.plot(blocks, distances, '.', color=line.get_color(), alpha=0.35, markersize=4)
    axes.set(xlabel='block', ylabel='attention distance (pixels)', xticks=blocks)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure
