"""The grid of patches that the positions in a checkpoint are for: stated, recognized, or assumed and said."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mm_graft.checkpoints.names import TABLE
from mm_graft.checkpoints.resize import (
    EXTRA_ROWS,
    PREFIX_TOKENS,
    Grid,
    num_displacements,
    resize_positions,
    resize_table,
    sincos_grid,
    square_grid,
)

POSITIONS = ('pos_embed', 'decoder_pos_embed')


class SourceGrid(NamedTuple):
    """Rows and columns, and their origin: ``'given'``, ``'recognized'``, ``'stated'`` or ``'assumed'``."""

    grid: Grid
    how: str


def is_positional(name: str) -> bool:
    """Whether a tensor belongs to a grid."""
    return name.rsplit('.', 1)[-1] in (*POSITIONS, TABLE)


def is_of_window(name: str, table: Tensor) -> bool:
    """Whether a table of relative positions is that of a window (Swin), which has no rows for a class token.

    (2H − 1)(2W − 1) is odd, and BEiT adds three rows.
    """
    return name.endswith(TABLE) and len(table) % 2 == 1


def find_grid(tensors: Mapping[str, Tensor], given: Grid | None = None, stated: Grid | None = None,
              target: Grid | None = None) -> SourceGrid | None:
    """The grid of the positions in an encoder: ``given`` by the user, or ``stated`` by the file; None if it has none.

    A fixed table of sines and cosines shows its grid. A learned one does not: then a square is assumed where the number
    of patches is one, else the backbone's grid ``target`` where that has as many.
    """
    name = next((name for name, table in tensors.items()
                 if is_positional(name) and not is_of_window(name, table)), None)
    if name is None:
        return None
    table = tensors[name]
    counts = PREFIX_TOKENS if any(name.endswith('reg_token') for name in tensors) else PREFIX_TOKENS[:-1]
    if given and not fits(name, table, given):
        raise ValueError(f'{name} with {tuple(table.shape)} is not of the given {given[0]} × {given[1]} patches')
    for grid, how in ((given, 'given'), (recognize(name, table), 'recognized'), (stated, 'stated'),
                      (square_of(name, table, counts), 'assumed'), (target, 'assumed')):
        if grid and fits(name, table, grid):
            return SourceGrid(tuple(grid), how)
    raise ValueError(f'{name} with {tuple(table.shape)} is of no square grid of patches; say of which one by '
                     'grid=(rows, columns), or --from-grid ROWS COLUMNS')


def recognize(name: str, table: Tensor) -> Grid | None:
    """The grid of a fixed table, of which the first rows may belong to other tokens."""
    if name.endswith(TABLE) or table.ndim != 3:
        return None
    found = (sincos_grid(table[0, extra:]) for extra in PREFIX_TOKENS)
    return next((grid for grid in found if grid), None)


def square_of(name: str, table: Tensor, counts: Sequence[int]) -> Grid | None:
    """The square grid that a table can be of, behind one of these numbers of other tokens."""
    if name.endswith(TABLE):
        grid = square_grid(len(table) - EXTRA_ROWS)
        return grid and ((grid[0] + 1) // 2, ) * 2
    found = (square_grid(table.shape[1] - extra) for extra in counts) if table.ndim == 3 else ()
    return next((grid for grid in found if grid), None)


def fits(name: str, table: Tensor, grid: Grid) -> bool:
    """Whether a table has the size of a grid."""
    if name.endswith(TABLE):
        return len(table) == num_displacements(grid)
    return table.ndim == 3 and table.shape[1] - grid[0] * grid[1] in PREFIX_TOKENS


def to_grid(tensors: Mapping[str, Tensor], source: Grid, target: Grid) -> dict[str, Tensor]:
    """All position embeddings and tables of relative positions in a state dict, for another grid."""
    resized = dict(tensors)
    for name, tensor in tensors.items():
        if is_of_window(name, tensor):
            continue
        if name.endswith(TABLE):
            resized[name] = resize_table(tensor, source, target)
        elif is_positional(name):
            resized[name] = resize_positions(tensor, source, target)
    return resized
