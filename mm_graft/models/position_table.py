"""Fixed sine-cosine position tables, a row per patch, row-major, in the two layouts that checkpoints have."""

import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor


def sincos_position_table(height: int, width: int, dims: int) -> Tensor:
    """MAE's layout: g(column) ++ g(row), with g(p) = sin(p·ω) ++ cos(p·ω), ω_i = 10000^(-4i/dims).

    A row for each of height·width patches. LocalMIM has it too. mmpretrain's MAE has MoCo v3's
    (:func:`mocov3_position_table`): not to be mixed within one set of weights. Computed in fp64, returned in fp32.
    """
    if dims % 4:
        raise ValueError(f'dims={dims} must be a multiple of 4: sine and cosine of two coordinates')
    omega = 10000**(-torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))

    def encode(positions: Tensor) -> Tensor:
        angles = positions[:, None] * omega
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.cat([encode(column.flatten()), encode(row.flatten())], dim=1).float()


def mocov3_position_table(grid: tuple[int, int], dims: int) -> Tensor:
    """MoCo v3's layout, g(row) ++ g(column), for ``grid`` = (rows, columns); the class token's row, zeros, comes first.

    The host's function goes through a grid column by column, while tokens come row by row. On square grids the two
    cannot be told apart; asked for the transposed grid, it gives the rows in the order of the tokens on every grid.

    Returns:
        (1, 1 + rows·columns, dims), fp32.
    """
    return build_2d_sincos_position_embedding(tuple(grid)[::-1], dims, cls_token=True)
