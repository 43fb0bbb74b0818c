"""Relative position bias: one learned number for each displacement between two patches, and head.

A table for a grid of H × W patches has (2H−1)(2W−1) rows of displacements (dy, dx) = query − key, row-major, and three
more for class → patch, patch → class and class → class (BEiT; ``TencentARC/ConMIM@4263955``, ``modeling_finetune.py``).
"""

import torch
from torch import Tensor, nn

from mm_graft.checkpoints.resize import EXTRA_ROWS, num_displacements, resize_table


def displacement_index(grid: tuple[int, int]) -> Tensor:
    """Row of the table for each pair (query, key) of tokens, class token first: (1 + N, 1 + N)."""
    height, width = grid
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    y, x = y.flatten(), x.flatten()
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    class_to_patch = num_displacements(grid) - EXTRA_ROWS
    index = torch.full((height * width + 1,) * 2, class_to_patch)
    index[1:, 1:] = (dy + height - 1) * (2 * width - 1) + dx + width - 1
    index[1:, 0] = class_to_patch + 1
    index[0, 0] = class_to_patch + 2
    return index


class RelativePositionBias(nn.Module):
    """A table, and the attention bias (heads, 1 + N, 1 + N) that it gives on any grid.

    Args:
        grid: rows and columns of patches that the table is for.
        num_heads: heads of the attention.
        mode: interpolation for other grids in the forward.
    """

    def __init__(self, grid: tuple[int, int], num_heads: int, mode: str = 'bilinear') -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.mode = mode
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_displacements(self.grid), num_heads))
        self.register_buffer('index', displacement_index(self.grid), persistent=False)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Bias of the attention logits on ``grid``."""
        grid = tuple(grid)
        table = resize_table(self.relative_position_bias_table, self.grid, grid, self.mode)
        index = self.index if grid == self.grid else displacement_index(grid).to(table.device)
        return table[index].permute(2, 0, 1)  # (1+N, 1+N, heads) → (heads, 1+N, 1+N)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        state_dict.pop(f'{prefix}relative_position_index', None)  # derived from the grid; stored by BEiT's code
        super()._load_from_state_dict(state_dict, prefix, *args)
