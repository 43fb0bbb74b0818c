"""Nearest patches in other images (ConMIM Fig. 4)."""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F


class Neighbors(NamedTuple):
    """Patches by falling similarity to a query; each of shape (k,)."""

    images: np.ndarray
    patches: np.ndarray
    similarities: np.ndarray


@torch.no_grad()
def nearest_patches(features: Tensor, image: int, patch: int, k: int = 10) -> Neighbors:
    """The k patches of other images with the highest cosine similarity to one patch.

    Args:
        features: patch tokens (B, N, D), without the class token.
        image: index of the query's image.
        patch: index of the query's patch, row-major on the grid.
        k: number of neighbors.
    """
    count, num_patches = features.shape[:2]
    if not (0 <= image < count and 0 <= patch < num_patches):
        raise ValueError(f'there is no patch {patch} of image {image}; choose among {num_patches} patches of '
                         f'{count} images')
    if not 1 <= k <= (count - 1) * num_patches:
        raise ValueError(f'k={k}, but the other images hold {(count - 1) * num_patches} patches; choose fewer, or give '
                         'more images')
    unit = F.normalize(features.float(), dim=-1)
    similarity = unit @ unit[image, patch]  # (B, N, D) → (B, N)
    similarity[image] = float('-inf')
    values, index = similarity.flatten().topk(k)
    index = index.cpu().numpy()
    return Neighbors(index // num_patches, index % num_patches, values.cpu().numpy())


def patch_box(patch: int, grid: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of pixels that a patch of the grid covers in an image of ``size`` (H, W)."""
    height, width = size[0] // grid[0], size[1] // grid[1]
    top, left = patch // grid[1] * height, patch % grid[1] * width
    return slice(top, top + height), slice(left, left + width)


def draw_neighbors(images: np.ndarray, grid: tuple[int, int], query: tuple[int, int], found: Neighbors) -> Figure:
    """The query's image with its patch framed, then the patches of :func:`nearest_patches`."""
    figure = Figure(figsize=(1.2 * (len(found.images) + 2), 1.6), layout='constrained')
    axes = figure.subplots(1, len(found.images) + 2, squeeze=False)[0]
    image, patch = query
    rows, columns = patch_box(patch, grid, images.shape[1:3])
    axes[0].imshow(images[image])
    axes[0].plot([columns.start, columns.stop, columns.stop, columns.start, columns.start],
                 [rows.start, rows.start, rows.stop, rows.stop, rows.start], color='red')
    axes[1].imshow(images[image][rows, columns])
    titles = ['image', 'query', *(f'{similarity:.2f}' for similarity in found.similarities)]
    for axis, index, place in zip(axes[2:], found.images, found.patches):
        axis.imshow(images[index][patch_box(place, grid, images.shape[1:3])])
    for axis, title in zip(axes, titles):
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, fontsize=8)
    return figure
