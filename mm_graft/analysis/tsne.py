"""Features in the plane (paper Fig. 3), by scikit-learn's t-SNE, or by UMAP where it is installed."""

from importlib.util import find_spec

import numpy as np
from matplotlib.figure import Figure


def embed(features: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Points (N, 2) of features (N, D), each scaled to length 1 first; started from the first two components.

    Features that have collapsed to one lie at the origin.

    The paper gives neither the classes nor the settings of its picture.
    """
    if not 0 < perplexity < len(features):
        raise ValueError(f'perplexity={perplexity} is a number of neighbors and must lie below the '
                         f'{len(features)} images; lower it or give more images')
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if np.ptp(unit, axis=0).max() < 1e-6:  # collapsed; scikit-learn would divide by their spread and crash
        return np.zeros((len(features), 2))
    from sklearn.manifold import TSNE  # a second that pages without a map do without
    return TSNE(perplexity=perplexity, init='pca', random_state=seed).fit_transform(unit)


def project(features: np.ndarray, seed: int = 0) -> tuple[str, np.ndarray]:
    """Name of the method and points (N, 2) of features (N, D): UMAP by angle if ``umap-learn`` is there, else t-SNE."""
    neighbors = min(15, len(features) - 1)
    if find_spec('umap') is None or neighbors < 2:
        return 't-SNE', embed(features, min(30.0, (len(features) - 1) / 3), seed)
    from umap import UMAP
    return 'UMAP', UMAP(n_neighbors=neighbors, metric='cosine', random_state=seed, n_jobs=1).fit_transform(features)


def draw_points(points: dict[str, np.ndarray], labels: np.ndarray, names: list[str]) -> Figure:
    """One panel of points (N, 2) a model, one color a class."""
    figure = Figure(figsize=(5 * len(points), 4.6), layout='constrained')
    for axes, (title, places) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items()):
        for index, label in enumerate(np.unique(labels)):
            chosen = places[labels == label]
            axes.scatter(*chosen.T, s=6, color=f'C{index % 10}', label=names[label])
        axes.set(title=title, xticks=[], yticks=[])
    figure.legend(*axes.get_legend_handles_labels(), loc='outside right', fontsize=8, frameon=False)
    return figure
