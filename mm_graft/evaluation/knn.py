"""k nearest neighbours on frozen features: cosine similarity, votes weighted by a temperature.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", §3.4: with the k training
features most similar to a test feature f,

    score(c) = Σ_{i ∈ kNN(f), y_i = c} exp(cos(f_i, f) / τ).

The neighbours are exact. Test features go through in blocks, so the similarities of all pairs never exist at once:
1.28 million training features of 768 dimensions take 4 GB, and a block of similarities at most ``BLOCK_ELEMENTS``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK_ELEMENTS = 2 ** 27  # similarities alive at once: 0.5 GB in float32, about three times that while they are sorted


def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    num_classes: int | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> dict[int, Tensor]:
    """Predicted class of every test feature, for several k at once.

    Args:
        train_features: (N, D), any scale; normalised here. float64 is kept, anything else is computed in float32.
        train_labels: (N,), classes from 0.
        test_features: (M, D), on the device of the training features.
        ks: numbers of neighbours.
        temperature: τ; a small one listens to the nearest only.
        num_classes: number of classes; without it the largest training label says.
        block_elements: similarities that may be alive at once. It changes the memory, not the result.

    Returns:
        k → (M,) predictions. Among equal scores the lowest class wins.

    Raises:
        ValueError: shapes do not fit, a label is outside the classes, k exceeds N, or τ is not positive.
    """
    num_classes = num_classes or int(train_labels.max()) + 1
    _check(train_features, train_labels, test_features, ks, temperature, num_classes)
    bank, queries = _normalised(train_features), _normalised(test_features)
    labels = train_labels.to(bank.device)
    rows = max(1, block_elements // len(bank))
    votes = [_predict_block(block, bank, labels, ks, temperature, num_classes) for block in _blocks(queries, rows)]
    return {k: torch.cat([vote[k] for vote in votes]) for k in ks}


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    num_classes: int | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> dict[int, float]:
    """Accuracy (a fraction) of :func:`knn_predict` on the test labels (M,), for each k.

    Raises:
        ValueError: as :func:`knn_predict`, or the test labels do not fit the test features.
    """
    if len(test_labels) != len(test_features) or not len(test_labels):
        raise ValueError(f'{len(test_features)} test features and {len(test_labels)} test labels; give one label each')
    predictions = knn_predict(
        train_features, train_labels, test_features, ks, temperature, num_classes, block_elements)
    test_labels = test_labels.to(train_features.device)
    return {k: int((predicted == test_labels).sum()) / len(test_labels) for k, predicted in predictions.items()}


def standardized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) and (M, D) minus the mean of the training features, over their standard deviation + 1e-6."""
    train, test = train.float(), test.float()
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    return (train - mean) / deviation, (test - mean) / deviation


def _predict_block(
    queries: Tensor, bank: Tensor, labels: Tensor, ks: Sequence[int], temperature: float, num_classes: int,
) -> dict[int, Tensor]:
    similarity, index = (queries @ bank.T).topk(max(ks), dim=1)  # (B, N) → (B, k)
    # The factor exp(−1/τ), the same in every vote, keeps small temperatures from overflowing.
    weights = ((similarity - 1) / temperature).exp()
    neighbours = labels[index]
    scores = weights.new_zeros(len(queries), num_classes)
    predictions, counted = {}, 0
    for k in sorted(ks):
        scores.scatter_add_(1, neighbours[:, counted:k], weights[:, counted:k])
        predictions[k], counted = scores.argmax(1), k
    return predictions


def _blocks(queries: Tensor, rows: int) -> Iterator[Tensor]:
    return iter(queries.split(rows))


def _normalised(features: Tensor) -> Tensor:
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=1)


def _check(
    train: Tensor, labels: Tensor, test: Tensor, ks: Sequence[int], temperature: float, num_classes: int,
) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(test):
        raise ValueError(
            f'training features {tuple(train.shape)} and test features {tuple(test.shape)}; give (N, D) and (M, D)')
    if len(labels) != len(train):
        raise ValueError(f'{len(train)} training features and {len(labels)} labels; give one label each')
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f'labels go from {int(labels.min())} to {int(labels.max())}, outside the {num_classes} classes 0 to '
            f'{num_classes - 1}; pass the right num_classes, or images with labels')
    if not ks or min(ks) < 1 or max(ks) > len(train):
        raise ValueError(f'ks={tuple(ks)} with {len(train)} training features; choose from 1 to {len(train)}')
    if not temperature > 0:
        raise ValueError(f'temperature={temperature} is not positive; 0.07 is usual')
