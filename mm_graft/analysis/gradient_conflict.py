"""Where two losses disagree: conflict of their gradients per block, over many batches (paper Figs. 1 and 8).

The equation and the measurement of one batch are in :mod:`mm_graft.gradients`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from mm_graft.gradients import Conflict, undisturbed

COLORS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377')


class Line(NamedTuple):
    """A straight line through the medians: cosine = slope · block + intercept, blocks counted from 1."""

    slope: float
    intercept: float


def conflict_over_batches(model: nn.Module, measure: Callable[[object], Conflict], batches: Iterable) -> np.ndarray:
    """Cosines (num_batches, num_blocks), by ``measure(batch)``; the model is not changed.

    Set its mode before (the paper measures a run in training, so ``model.train()``).
    """
    rows = []
    for batch in batches:
        with undisturbed(model):
            rows.append(measure(batch).cosine.float().cpu())
    if not rows:
        raise ValueError('there are no batches to measure the conflict on; give more data or a smaller batch size')
    return torch.stack(rows).numpy()


def median_line(cosines: np.ndarray) -> Line:
    """Least-squares line through the medians of cosines (num_batches, num_blocks), without blocks that have none."""
    medians = np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan
                        for column in cosines.T])
    known = np.flatnonzero(np.isfinite(medians))
    if len(known) < 2:
        raise ValueError(f'{len(known)} blocks have a conflict, a line needs two; unfreeze more blocks')
    return Line(*map(float, np.polyfit(known + 1.0, medians[known], 1)))


def conflict_summary(cosines: np.ndarray) -> dict:
    """For a JSON file: all values, and per block the quartiles and the negative share."""
    columns = [column[np.isfinite(column)] for column in cosines.T]
    slope, intercept = median_line(cosines)
    return {
        'cosine': [[float(value) if np.isfinite(value) else None for value in row] for row in cosines],
        'quartiles': [[float(value) for value in np.percentile(column, (25, 50, 75))] if len(column) else None
                      for column in columns],
        'negative': [float((column < 0).mean()) if len(column) else None for column in columns],
        'slope': slope,
        'intercept': intercept,
    }


def draw_conflict(conflicts: dict[str, np.ndarray]) -> Figure:
    """Box plot per block of cosines (num_batches, num_blocks), the straight line that fits the medians best dashed."""
    figure = Figure(figsize=(7.5, 4), layout='constrained')
    axes = figure.subplots()
    axes.axhline(0, color='#999999', linewidth=0.8)
    count, width = len(conflicts), 0.7 / len(conflicts)
    for index, (label, cosines) in enumerate(conflicts.items()):
        color = COLORS[index % len(COLORS)]
        blocks = np.arange(1, cosines.shape[1] + 1)
        places = blocks + (index - (count - 1) / 2) * width
        boxes = axes.boxplot([column[np.isfinite(column)] for column in cosines.T], positions=places,
                             widths=0.85 * width, patch_artist=True, medianprops={'color': 'black'},
                             flierprops={'markersize': 2})
        for box in boxes['boxes']:
            box.set(facecolor=color, alpha=0.6)
        line = median_line(cosines)
        line_color = 'red' if count == 1 else color
        axes.plot(blocks, line.slope * blocks + line.intercept, '--', color=line_color, label=label)
    axes.set(xlabel='block', ylabel='cosine of the two gradients', xticks=blocks, xticklabels=blocks)
    axes.legend(frameon=False)
    return figure
