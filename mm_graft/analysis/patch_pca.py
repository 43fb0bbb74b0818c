"""The first three principal components of an image's patch tokens as colors."""

import numpy as np
from matplotlib.figure import Figure

from mm_graft.analysis.gallery import draw_rows


def principal_colors(tokens: np.ndarray) -> np.ndarray:
    """Patch tokens (B, N, D) of several images → colors (B, N, 3) in [0, 1].

    The components are those of all tokens together, so that a color means the same in every image; each runs from its
    2nd to its 98th percentile. Their signs are fixed: the largest weight of each is positive.
    """
    flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    centered = flat - flat.mean(0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:3]  # (3, D)
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])[:, None]
    parts = centered @ directions.T
    low, high = np.percentile(parts, (2, 98), axis=0)
    colors = ((parts - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return np.pad(colors, ((0, 0), (0, 3 - colors.shape[1]))).reshape(*tokens.shape[:2], 3)


def draw_patch_pca(images: np.ndarray, tokens: dict[str, np.ndarray], grid: tuple[int, int]) -> Figure:
    """A row of images (B, H, W, 3), and a row of their patches (B, rows·columns, D) for each encoder, colored."""
    colors = {name: principal_colors(part).reshape(len(images), *grid, 3) for name, part in tokens.items()}
    return draw_rows({'image': images, **colors}, side=1.2)
