"""Position embeddings and tables of relative positions for another grid of patches; done only on request."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EXTRA_ROWS = 3


def num_displacements(grid: tuple[int, int]) -> int:
    """Rows of a table of relative positions, with the three that concern the class token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA_ROWS


def resize_table(table: Tensor, source: tuple[int, int], target: tuple[int, int], mode: str = 'bilinear') -> Tensor:
    """The table of one grid for another, (rows, heads): the displacements as an image, resized.

    The paper names bilinear interpolation for ADE20K (Table 13). BEiT's code interpolates cubically over
    geometrically spaced displacements, as does the host, through a SciPy function that no longer exists.
    """
    if source == target:
        return table
    patches, extra = table[:-EXTRA_ROWS], table[-EXTRA_ROWS:]
    image = patches.T.reshape(1, -1, 2 * source[0] - 1, 2 * source[1] - 1)  # (rows, heads) → (1, heads, 2H−1, 2W−1)
    size = (2 * target[0] - 1, 2 * target[1] - 1)
    image = F.interpolate(image.float(), size, mode=mode, align_corners=False).to(table.dtype)
    return torch.cat([image.flatten(2)[0].T, extra])


def fit_table(table: Tensor, grid: tuple[int, int], mode: str = 'bilinear') -> Tensor:
    """The table of any square grid for ``grid``; a table of that length is returned as it is.

    Raises:
        ValueError: the length is neither that of ``grid`` nor of a square grid.
    """
    if len(table) == num_displacements(grid):
        return table
    side = (round(max(len(table) - EXTRA_ROWS, 1)**0.5) + 1) // 2
    if num_displacements((side, side)) != len(table):
        raise ValueError(f'a relative position table of {len(table)} rows is of no square grid of patches; resize it '
                         f'to {grid[0]} × {grid[1]} patches with `resize_table` before loading')
    return resize_table(table, (side, side), grid, mode)


def fit_positions(table: Tensor, grid: tuple[int, int], mode: str = 'bicubic') -> Tensor:
    """A position embedding (1, extra + N, D) of any square grid for ``grid``; the extra tokens' rows stay.

    Raises:
        ValueError: N is neither that of ``grid`` nor a square.
    """
    side = math.isqrt(table.shape[1])
    extra = table.shape[1] - side**2
    if table.shape[1] - grid[0] * grid[1] in (0, 1):
        return table
    if extra > 2:
        raise ValueError(f'a position embedding of {table.shape[1]} tokens is of no square grid of patches; resize it '
                         f'to {grid[0]} × {grid[1]} patches before loading')
    image = table[:, extra:].reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, N, D) → (1, D, H, W)
    image = F.interpolate(image.float(), grid, mode=mode, align_corners=False).to(table.dtype)
    return torch.cat([table[:, :extra], image.flatten(2).transpose(1, 2)], dim=1)


def resize_model(tensors: dict[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """All position embeddings and tables of relative positions in a state dict, for ``grid``."""
    resized = dict(tensors)
    for name, tensor in tensors.items():
        if name.rsplit('.', 1)[-1] in ('pos_embed', 'decoder_pos_embed'):
            resized[name] = fit_positions(tensor, grid)
        elif name.endswith('relative_position_bias_table'):
            resized[name] = fit_table(tensor, grid)
    return resized
