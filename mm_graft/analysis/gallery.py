"""A gallery of queries and their nearest neighbors, before and after training."""

from collections.abc import Sequence

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


def draw_gallery(images: np.ndarray, queries: Sequence[int], neighbors: dict[str, np.ndarray]) -> Figure:
    """A row for each query: the query, then its neighbors (queries, k) by each encoder; images in [0, 1] or bytes."""
    k = next(iter(neighbors.values())).shape[1]
    columns = 1 + len(neighbors) * (k + 1)  # a gap before each encoder's neighbors
    figure = Figure(figsize=(SIDE * columns, SIDE * len(queries) + 0.3), layout='constrained')
    axes = figure.subplots(len(queries), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, query in enumerate(queries):
        axes[row, 0].imshow(images[query])
        for block, found in enumerate(neighbors.values()):
            for place, index in enumerate(found[row]):
                axes[row, 2 + block * (k + 1) + place].imshow(images[index])
    axes[0, 0].set_title('image', fontsize=8)
    for block, name in enumerate(neighbors):
        axes[0, 2 + block * (k + 1) + k // 2].set_title(f'nearest, {name}', fontsize=8)
    return figure
