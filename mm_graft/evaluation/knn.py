"""k nearest neighbors on frozen features: cosine similarity, votes weighted by a temperature.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", §3.4: with the k training
features most similar to a test feature f,

    score(c) = Σ_{i ∈ kNN(f), y_i = c} exp(cos(f_i, f) / τ).

The neighbors are exact. Test features go through in blocks, so the similarities of all pairs never exist at once:
1.28 million training features of 768 dimensions take 4 GB, and a block of similarities at most ``BLOCK_ELEMENTS``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mm_graft.evaluation.features import check_features

BLOCK_ELEMENTS = 2 ** 27  # similarities alive at once: 0.5 GB in float32, about three times that while they are sorted


def knn_accuracy(train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor,
                 ks: Sequence[int] = (10, 20, 100, 200), temperature: float = 0.07,
                 num_classes: int | None = None) -> dict[int, float]:
    """Fraction of the test features (M, D) that :func:`knn_predict` gives their label, for each k."""
    num_classes = check_features(train_features, train_labels, test_features, test_labels, num_classes)
    predictions = knn_predict(train_features, train_labels, test_features, ks, temperature, num_classes)
    test_labels = test_labels.to(train_features.device)
    return {k: int((predicted == test_labels).sum()) / len(test_labels) for k, predicted in predictions.items()}


def standardized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D) and (M, D) minus the mean of the training features, over their standard deviation + 1e-6."""
    train, test = train.float(), test.float()
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    return (train - mean) / deviation, (test - mean) / deviation


def knn_predict(train_features: Tensor, train_labels: Tensor, test_features: Tensor, ks: Sequence[int],
                temperature: float, num_classes: int, block_elements: int = BLOCK_ELEMENTS) -> dict[int, Tensor]:
    """Predicted class of every test feature, for several k at once: k → (M,). Among equal scores the lowest class wins.

    Args:
        train_features: (N, D), any scale; normalized here. float64 is kept, anything else is computed in float32.
        train_labels: (N,), classes from 0.
        test_features: (M, D), on the device of the training features.
        ks: numbers of neighbors.
        temperature: τ; with a small one only the nearest count.
        num_classes: C.
        block_elements: similarities that may be alive at once. It changes the memory, not the result.
    """
    if not ks or min(ks) < 1 or max(ks) > len(train_features):
        raise ValueError(f'ks={tuple(ks)} with {len(train_features)} training features; choose from 1 to '
                         f'{len(train_features)}')
    if not temperature > 0:
        raise ValueError(f'temperature={temperature} is not positive; 0.07 is usual')
    bank, queries = _normalized(train_features), _normalized(test_features)
    labels = train_labels.to(bank.device)
    blocks = queries.split(max(1, block_elements // len(bank)))
    votes = [_predict_block(block, bank, labels, ks, temperature, num_classes) for block in blocks]
    return {k: torch.cat([vote[k] for vote in votes]) for k in ks}


def _predict_block(
    queries: Tensor, bank: Tensor, labels: Tensor, ks: Sequence[int], temperature: float, num_classes: int,
) -> dict[int, Tensor]:
    similarity, index = (queries @ bank.T).topk(max(ks), dim=1)  # (B, N) → (B, k)
    # The factor exp(−1/τ), the same in every vote, keeps small temperatures from overflowing.
    weights = ((similarity - 1) / temperature).exp()
    neighbors = labels[index]
    scores = weights.new_zeros(len(queries), num_classes)
    predictions, counted = {}, 0
    for k in sorted(ks):
        scores.scatter_add_(1, neighbors[:, counted:k], weights[:, counted:k])
        predictions[k], counted = scores.argmax(1), k
    return predictions


def _normalized(features: Tensor) -> Tensor:
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=1)
