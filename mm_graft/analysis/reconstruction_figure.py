"""Drawing reconstructions: image and predictions above, visible patches and targets below."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mm_graft.analysis.reconstruction import Reconstruction, Scale, strokes

SIDE = 2.3  # inches of a panel
GROUND = '#10131c'
STROKE = np.array([1.0, 0.83, 0.55])
HIDDEN_GRAY = 0.82
VISIBLE_STRENGTH = 0.3  # of a prediction where nothing was hidden and nothing is learnt
GAMMA = 0.7  # lifts weak entries, which predictions of little confidence consist of
FAINTEST = 0.12  # entries below this share of the largest are not drawn


def draw(reconstructions: Sequence[Reconstruction]) -> Figure:
    """A figure with two rows per image.

    Predictions are at full strength where the image was hidden and faint elsewhere, since only there they are
    trained. HOG is drawn as strokes along the edges, brighter for larger entries; prediction and target of a scale
    share one measure of brightness.
    """
    columns, rows = 1 + len(reconstructions[0].scales), 2 * len(reconstructions)
    figure = Figure(figsize=(SIDE * columns, (SIDE + 0.22) * rows), layout='constrained', facecolor='white')
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    axes = figure.subplots(rows, columns, squeeze=False)
    for k, reconstruction in enumerate(reconstructions):
        above, below = axes[2 * k], axes[2 * k + 1]
        show_picture(above[0], reconstruction.image, 'image')
        show_picture(below[0], visible_part(reconstruction), f'visible, {1 - reconstruction.mask.mean():.0%}')
        for scale, top, bottom in zip(reconstruction.scales, above[1:], below[1:]):
            show_scale(top, bottom, scale, reconstruction)
    return figure


def visible_part(reconstruction: Reconstruction) -> np.ndarray:
    """The picture with hidden patches in gray."""
    hidden = stretch(reconstruction.mask, reconstruction.image.shape[:2])
    return np.where(hidden[..., None], HIDDEN_GRAY, reconstruction.image)


def stretch(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Repeat cells (rows, columns) to a picture's size."""
    return cells.repeat(size[0] // cells.shape[0], 0).repeat(size[1] // cells.shape[1], 1)


def show_scale(top: Axes, bottom: Axes, scale: Scale, reconstruction: Reconstruction) -> None:
    """One scale's prediction and target."""
    rows, columns = scale.hidden.shape
    size = reconstruction.image.shape[:2]
    if scale.is_histogram:
        strength = VISIBLE_STRENGTH + (1 - VISIBLE_STRENGTH) * scale.hidden
        largest = max(float(scale.target.max()), 1e-12)
        show_histograms(top, scale.prediction / largest, strength, size, f'predicted, {rows}×{columns}')
        show_histograms(bottom, scale.target / largest, np.ones_like(strength), size, f'target, {rows}×{columns}')
    else:
        hidden = stretch(scale.hidden, scale.prediction.shape[:2])[..., None]
        show_picture(top, hidden * scale.prediction + (1 - hidden) * scale.target, f'predicted, {rows}×{columns}')
        show_picture(bottom, scale.target, f'target, {rows}×{columns}')


def show_picture(axes: Axes, picture: np.ndarray, title: str) -> None:
    """A picture without ticks."""
    axes.imshow(picture, interpolation='nearest')
    _finish(axes, title)


def show_histograms(axes: Axes, histograms: np.ndarray, strength: np.ndarray, size: tuple[int, int],
                    title: str) -> None:
    """Histograms (rows, columns, N) with entries in [0, 1] as strokes; ``strength`` (rows, columns) dims them."""
    height, width = size
    rows = histograms.shape[0]
    ends, share = strokes(histograms.clip(0, 1), width, height)
    alpha = share**GAMMA * strength.repeat(histograms.shape[2])
    drawn = np.flatnonzero(share > FAINTEST)
    drawn = drawn[np.argsort(share[drawn])]  # the strongest on top
    colors = np.column_stack([np.tile(STROKE, (len(drawn), 1)), alpha[drawn].clip(0, 1)])
    cell = SIDE * 72 / rows  # points
    widths = np.clip(0.11 * cell, 0.35, 2.6) * (0.5 + share[drawn])
    axes.add_collection(LineCollection(ends[drawn], colors=colors, linewidths=widths, capstyle='round'))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect='equal', facecolor=GROUND)
    _finish(axes, title)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, color='#333333', pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
