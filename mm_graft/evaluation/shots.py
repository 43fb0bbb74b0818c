"""Logistic regression on one, two and five images a class, mean over drawn splits: extreme few-shot evaluation.

As MSN (Assran et al., ECCV 2022) and MIM-Refiner evaluate: three splits of each number, the classifier and penalty of
:mod:`mm_graft.evaluation.fewshot`. Their splits are lists of images; here every split is drawn from a seed.
"""

from statistics import fmean, stdev

import torch
from torch import Tensor

from mm_graft.evaluation.fewshot import fewshot_logreg
from mm_graft.evaluation.splits import pick_per_class

SPLITS = 3


def accuracies_of_splits(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int, per_class: int, seed: int,
    splits: int = SPLITS,
) -> list[float]:
    """Accuracies (fractions) of classifiers fitted on ``per_class`` images a class, one for each split.

    Both sets are features (N, D) and labels (N,); the splits have the seeds from ``seed`` on.
    """
    features, labels = train
    accuracies = []
    for offset in range(splits):
        rows = torch.from_numpy(pick_per_class(labels.cpu().numpy(), per_class, seed + offset)).to(features.device)
        accuracies.append(fewshot_logreg(features[rows], labels[rows], *test, num_classes).accuracy)
    return accuracies


def summary(accuracies: list[float]) -> dict:
    """Mean and spread over splits, in percent."""
    return {'top1': 100 * fmean(accuracies), 'top1_by_split': [100 * value for value in accuracies],
            'std_over_splits': 100 * stdev(accuracies) if len(accuracies) > 1 else 0.0}
