"""Evaluating every block of an encoder: kNN, linear and RankMe on class token and mean of patches.

Features are those that leave a block, before any norm, standardized for kNN and behind a batch norm for the linear
classifier, since their scale differs from block to block. MIM-Refiner's starting point is such a curve: in encoders of
masked image modeling the last blocks fall again, as they serve the decoder.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mm_graft.depth import blocks_of
from mm_graft.encoders import Encoder
from mm_graft.evaluation.features import encode_batches
from mm_graft.evaluation.knn import knn_accuracy, standardized
from mm_graft.evaluation.label_free import rank_me
from mm_graft.evaluation.layer_features import num_prefix_tokens
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid
from mm_graft.evaluation.reading import read_images

POOLS = ('class token', 'mean of patches')
K = 20
LINEAR = LinearProbeSettings(tuple(sweep_grid((0.01, 0.1, 1), (0, ))), epochs=30, batch_size=256, batch_norm=True)


def features_of_blocks(encoder: Encoder, dataset: Dataset, rows: list[int], batch_size: int,
                       workers: int) -> tuple[Tensor, Tensor]:
    """Features of every block for the images ``rows`` of a data set, (N, L, 2 or 1, D), and their labels (N,)."""
    batches = encode_batches(encoder, read_images(dataset, rows, batch_size, workers), 'all-blocks', progress=True)
    features, labels = zip(*((part.cpu(), part_labels) for part, part_labels, _ in batches if len(part_labels)))
    per_block = 2 if num_prefix_tokens(encoder.backbone) else 1
    layers = torch.cat(features).unflatten(1, (len(blocks_of(encoder.backbone)), per_block, -1))
    return layers, torch.cat(labels)


def curves(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int = 0,
           linear: LinearProbeSettings = LINEAR) -> dict[str, dict[str, list[float]]]:
    """Pool → measure → a value for every block: ``knn`` and ``linear`` in percent, ``rankme``.

    Both sets are features (N, L, P, D), from :func:`features_of_blocks`, and labels (N,).
    """
    pools = POOLS[-train[0].shape[2]:]
    linear = replace(linear, seed=seed)
    return {pool: _curve(train[0][:, :, index], train[1], test[0][:, :, index], test[1], linear)
            for index, pool in enumerate(pools)}


def _curve(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor,
           linear: LinearProbeSettings) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {'knn': [], 'linear': [], 'rankme': []}
    k = min(K, len(train))
    for block in range(train.shape[1]):
        ours, others = train[:, block], test[:, block]
        bank, queries = standardized(ours, others)
        accuracy = knn_accuracy(bank, train_labels, queries, test_labels, (k, ))[k]
        found['knn'].append(100 * accuracy)
        found['linear'].append(100 * linear_probe(ours, train_labels, others, test_labels, settings=linear).accuracy)
        found['rankme'].append(rank_me(others))
    return found
