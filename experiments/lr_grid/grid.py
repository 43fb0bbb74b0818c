"""Learning rates of the stages on a grid: its points, what their runs scored, heat maps (grafting, Fig. 4)."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.figure import Figure

STAGES = 3
Point = tuple[float, ...]


def grid_points(multipliers: Sequence[float]) -> list[Point]:
    """Every combination of the multipliers for three stages; the last stage varies slowest, as in the paper's panels.

    Raises:
        ValueError: fewer than two different multipliers, or one below 0; all stages at 0 are left out.
    """
    values = sorted(set(multipliers), reverse=True)
    if len(values) < 2 or min(values) < 0:
        raise ValueError(f'multipliers {list(multipliers)} make no grid; give at least two different ones ≥ 0')
    points = [(first, second, third) for third, first, second in product(values, repeat=STAGES)]
    return [point for point in points if any(point)]


def point_name(point: Point) -> str:
    """Name of a run's folder, such as ``0.1_0.1_1``."""
    return '_'.join(f'{multiplier:g}' for multiplier in point)


def score_table(scores: dict[Point, float], multipliers: Sequence[float], third: float) -> np.ndarray:
    """Scores of one panel, rows by the first stage and columns by the second, both ascending; NaN where unknown."""
    values = sorted(set(multipliers))
    return np.array([[scores.get((first, second, third), np.nan) for second in values] for first in values])


def draw_grid(scores: dict[Point, float], multipliers: Sequence[float], title: str) -> Figure:
    """A heat map a multiplier of the third stage, largest first; the panels have color bars of their own.

    In the paper the third stage alone spans 2.5 to 75 percent, which one bar could not show.

    Raises:
        ValueError: no scores.
    """
    if not scores:
        raise ValueError(f'no run of the grid has a score for {title}; train and evaluate some first')
    values = sorted(set(multipliers))
    figure = Figure(figsize=(3.7 * len(values), 3.4), layout='constrained')
    for axes, third in zip(figure.subplots(1, len(values), squeeze=False)[0], reversed(values)):
        table = score_table(scores, values, third)
        axes.set(title=f'third stage × {third:g}', xlabel='second stage ×', ylabel='first stage ×',
                 xticks=range(len(values)), yticks=range(len(values)))
        axes.set_xticklabels([f'{value:g}' for value in values])
        axes.set_yticklabels([f'{value:g}' for value in values])
        if np.isfinite(table).any():
            figure.colorbar(axes.imshow(table, origin='lower', cmap='viridis'), ax=axes)
        for (row, column), score in np.ndenumerate(table):
            if np.isfinite(score):
                axes.text(column, row, f'{score:.1f}', ha='center', va='center',
                          bbox={'facecolor': 'white', 'alpha': 0.7, 'edgecolor': 'none', 'pad': 1})
    figure.suptitle(title)
    return figure
