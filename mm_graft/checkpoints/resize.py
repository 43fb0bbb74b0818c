"""Position embeddings and tables of relative positions on other grids of patches; grids are compared, never counts."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.depth import find_backbone

Grid = tuple[int, int]
EXTRA_ROWS = 3  # of a table of relative positions: what concerns the class token
# Positions of tokens that are no patches: class; none; class and distillation; class and 4 registers; 4 registers
PREFIX_TOKENS = (1, 0, 2, 5, 4)


def grid_of(backbone: nn.Module) -> Grid | None:
    """Rows and columns of patches that a ViT is built for; None if it does not say."""
    vit = find_backbone(backbone)[1]
    for owner in (backbone, vit, getattr(vit, 'patch_embed', None)):
        for name in ('patch_resolution', 'init_out_size', 'grid_size', 'patches_resolution'):
            grid = getattr(owner, name, None)
            if grid is not None and len(grid) == 2:
                return tuple(grid)
    return None


def table_grids(backbone: nn.Module) -> dict[str, Grid]:
    """The grids of tables of relative positions that have their own (windows), by name."""
    return {f'{name}.relative_position_bias_table': tuple(module.grid) for name, module in backbone.named_modules()
            if hasattr(module, 'relative_position_bias_table') and hasattr(module, 'grid')}


def square_grid(count: int) -> Grid | None:
    """The square grid with this number of patches, if there is one."""
    side = math.isqrt(max(count, 0))
    return (side, side) if side and side**2 == count else None


def num_displacements(grid: Grid) -> int:
    """Rows of a table of relative positions, with the three that concern the class token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA_ROWS


def sincos_grid(positions: Tensor, tolerance: float = 2e-3) -> Grid | None:
    """The grid of a fixed table (N, D) of sines and cosines, row-major, in MAE's order or MoCo v3's; None for others.

    The host's table of a grid that is not square goes column by column; it is that of the transposed grid.
    """
    count, dims = positions.shape
    if dims % 4 or not count:
        return None
    omega = 10000**(-torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * omega
    code = torch.cat([angles.sin(), angles.cos()], 1)
    for mae_order in (True, False):
        for rows in (rows for rows in range(1, count + 1) if count % rows == 0):
            halves = positions.double().reshape(rows, count // rows, 2, dims // 2)
            row = code[:rows, None].expand(*halves.shape[:2], -1)
            column = code[None, :halves.shape[1]].expand(*halves.shape[:2], -1)
            order = (column, row) if mae_order else (row, column)
            if (halves - torch.stack(order, 2)).abs().amax() < tolerance:
                return rows, count // rows
    return None


def resize_table(table: Tensor, source: Grid, target: Grid, mode: str = 'bilinear') -> Tensor:
    """The table of relative positions of one grid for another, (rows, heads): the displacements as an image, resized.

    The paper names bilinear interpolation for ADE20K (Table 13). BEiT's code interpolates cubically over
    geometrically spaced displacements, as does the host, through a SciPy function that no longer exists.
    """
    if len(table) != num_displacements(source):
        raise ValueError(f'a relative position table of {len(table)} rows is not of {source[0]} × {source[1]} patches')
    if source == target:
        return table
    patches, extra = table[:-EXTRA_ROWS], table[-EXTRA_ROWS:]
    image = patches.T.reshape(1, -1, 2 * source[0] - 1, 2 * source[1] - 1)  # (rows, heads) → (1, heads, 2H−1, 2W−1)
    size = (2 * target[0] - 1, 2 * target[1] - 1)
    image = F.interpolate(image.float(), size, mode=mode, align_corners=False).to(table.dtype)
    return torch.cat([image.flatten(2)[0].T, extra])


def resize_positions(table: Tensor, source: Grid, target: Grid, mode: str = 'bicubic') -> Tensor:
    """A position embedding (1, extra + N, D) of one grid for another; the extra tokens' rows stay."""
    extra = table.shape[1] - source[0] * source[1]
    if extra not in PREFIX_TOKENS:
        raise ValueError(f'a position embedding of {table.shape[1]} tokens is not of {source[0]} × {source[1]} patches')
    if source == target:
        return table
    image = table[:, extra:].reshape(1, *source, -1).permute(0, 3, 1, 2)  # (1, N, D) → (1, D, H, W)
    image = F.interpolate(image.float(), target, mode=mode, align_corners=False).to(table.dtype)
    return torch.cat([table[:, :extra], image.flatten(2).transpose(1, 2)], dim=1)
