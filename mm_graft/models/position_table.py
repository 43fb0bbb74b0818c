"""Fixed sine-cosine position tables in MAE's layout."""

import torch
from torch import Tensor


def sincos_position_table(height: int, width: int, dims: int) -> Tensor:
    """A row per patch, row-major: g(column) ++ g(row), with g(p) = sin(p·ω) ++ cos(p·ω), ω_i = 10000^(-4i/dims).

    This is the layout of MAE and LocalMIM. mmpretrain builds MoCo v3's, g(row) ++ g(column), for MAE too: not to be
    mixed within one set of weights. Computed in fp64.

    Returns:
        (height·width, dims), fp32.

    Raises:
        ValueError: ``dims`` is no multiple of 4.
    """
    if dims % 4:
        raise ValueError(f'dims={dims} must be a multiple of 4: sine and cosine of two coordinates')
    omega = 10000**(-torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))

    def encode(positions: Tensor) -> Tensor:
        angles = positions.double()[:, None] * omega
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.cat([encode(column.flatten()), encode(row.flatten())], dim=1).float()
