"""Pictures in rows: what encoders make of images below these, and queries beside their nearest neighbors."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

SIDE = 0.9  # inches of a picture


def nearest_images(features: np.ndarray, queries: Sequence[int], k: int = 5) -> np.ndarray:
    """The k nearest images of each query, an index, by cosine similarity, without the query itself: (queries, k)."""
    if not 1 <= k < len(features):
        raise ValueError(f'{len(features)} images have no {k} neighbors each; choose k below the number of images')
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    similarity = unit[list(queries)] @ unit.T  # (Q, N)
    similarity[np.arange(len(queries)), list(queries)] = -np.inf
    return np.argsort(-similarity, axis=1, kind='stable')[:, :k]


def draw_rows(rows: Mapping[str, Sequence[np.ndarray]], side: float) -> Figure:
    """A row of pictures for each title, each ``side`` inches wide: colors (H, W, 3), or numbers (H, W)."""
    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(side * columns + 0.4, side * len(rows)), layout='constrained')
    for line, (title, pictures) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items()):
        line[0].set_ylabel(title, fontsize=8)
        for axis, picture in zip(line, pictures):
            axis.imshow(picture, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure


def draw_gallery(images: np.ndarray, queries: Sequence[int], neighbors: dict[str, np.ndarray]) -> Figure:
    """A row for each query: the query, then its neighbors (queries, k) by each encoder; images in [0, 1] or bytes."""
    panels = {'image': np.asarray(queries)[:, None], **{f'nearest, {name}': found for name, found in neighbors.items()}}
    widths = [found.shape[1] for found in panels.values()]
    figure = Figure(figsize=(SIDE * (sum(widths) + len(neighbors)), SIDE * len(queries) + 0.3), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for axis, (title, found) in zip(axes, panels.items()):
        axis.imshow(tiled(images[found]))  # axes for each picture would take a second to lay out
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    return figure


def tiled(pictures: np.ndarray) -> np.ndarray:
    """Pictures (rows, columns, H, W, 3), in [0, 1] or bytes, as one, with white gaps of a twelfth of their height."""
    rows, columns, height, width, colors = pictures.shape
    gap = max(1, height // 12)
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)),
                    constant_values=255 if pictures.dtype == np.uint8 else 1)
    # (rows, columns, H, W, 3) → (rows, H, columns, W, 3) → (rows·H, columns·W, 3)
    return padded.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + gap), columns * (width + gap), colors)[:-gap, :-gap]
