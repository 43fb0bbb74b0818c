"""The protocols on frozen features, by name: each takes the features of both sets and says how good they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
import torch
from torch import Tensor

from mm_graft.evaluation.fewshot import LAMBDA_TIMES_N, fewshot_logreg
from mm_graft.evaluation.knn import knn_accuracy, standardized
from mm_graft.evaluation.linear_probe import (
    LinearProbeResult,
    LinearProbeSettings,
    linear_probe,
    linear_probe_selected_on_test,
)
from mm_graft.evaluation.splits import pick_per_class, pick_share, read_list, sha256_of_list

SPLITS = 3  # of the protocol ``shots``


@dataclass(frozen=True)
class FrozenData:
    """Features (N, D) and labels (N,) of both sets on one device, and what few-shot lists speak of."""

    train_features: Tensor  #: of the training images
    train_labels: Tensor
    test_features: Tensor  #: of the test images
    test_labels: Tensor
    num_classes: int  #: C
    train_names: Sequence[str] = ()  #: names of the training images
    classes: Sequence[str] = ()  #: names of the classes, for messages


@dataclass(frozen=True)
class ProtocolSettings:
    """How the protocols run."""

    ks: tuple[int, ...] = (20, 10, 100, 200)  #: neighbors of kNN; the first that fits is the headline
    temperature: float = 0.07  #: τ of kNN
    #: kNN on features of mean 0 and deviation 1 over the training images, as MIM-Refiner's authors do
    standardize: bool = False
    linear: LinearProbeSettings = field(default_factory=LinearProbeSettings)  #: how the linear grid is trained
    #: the authors' habit of choosing the linear head on the test images; labeled in the report
    select_on_test: bool = False
    seeds: int = 1  #: repetitions of what is random, from ``linear.seed`` on
    #: file with the few-shot images; without it a class-balanced, seeded share is drawn
    fewshot_list: str | None = None
    fewshot_share: float = 0.01  #: that share
    fewshot_per_class: int | None = None  #: images a class instead of a share
    shots: tuple[int, ...] = (1, 2, 5)  #: images a class of the protocol ``shots``; the first is the headline
    #: file of the protocol ``zero-shot``, see :mod:`mm_graft.evaluation.zero_shot`
    class_embeddings: str | None = None


def percent(accuracy: float, total: int) -> dict:
    """Accuracy (a fraction of ``total`` images) as ``top1`` with its 95 % interval, in percent.

    The interval (Wilson's) is of the choice of test images, not of the training seed.
    """
    low, high = wilson_interval(round(accuracy * total), total)
    return {'top1': round(100 * accuracy, 9), 'interval95': [100 * low, 100 * high]}


def wilson_interval(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    r"""Wilson's score interval (1927) of a share p of n, with the normal quantile z of half the rest.

    .. math:: \frac{2np + z^2 \pm z \sqrt{4np(1-p) + z^2}}{2(n + z^2)}

    ``scipy.stats`` has it as well, and takes a second to import.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, spread = 2 * hits + z**2, z * sqrt(4 * hits * (1 - hits / total) + z**2)
    return tuple(min(max(end / (2 * (total + z**2)), 0.0), 1.0) for end in (middle - spread, middle + spread))


def run_knn(data: FrozenData, settings: ProtocolSettings) -> dict:
    """KNN for every k that the training set allows."""
    ks = [k for k in settings.ks if k <= len(data.train_features)] or [len(data.train_features)]
    train, test = data.train_features, data.test_features
    train, test = standardized(train, test) if settings.standardize else (train, test)
    by_k = knn_accuracy(train, data.train_labels, test, data.test_labels, ks, settings.temperature, data.num_classes)
    return {**percent(by_k[ks[0]], len(data.test_labels)), 'k': ks[0], 'temperature': settings.temperature,
            'standardized': settings.standardize, 'top1_by_k': {str(k): 100 * accuracy for k, accuracy in by_k.items()}}


def run_linear(data: FrozenData, settings: ProtocolSettings) -> dict:
    """The linear grid, once for every seed."""
    probe = linear_probe_selected_on_test if settings.select_on_test else linear_probe
    results = [
        probe(data.train_features, data.train_labels, data.test_features, data.test_labels, data.num_classes,
              replace(settings.linear, seed=settings.linear.seed + offset))
        for offset in range(settings.seeds)]
    return linear_report(results, settings, len(data.test_labels))


def linear_report(results: Sequence[LinearProbeResult], settings: ProtocolSettings, total: int) -> dict:
    """The accuracy over seeds on ``total`` test images, and how the first seed's head was reached."""
    first = results[0]
    return {
        **over_seeds([result.accuracy for result in results], total),
        'selected_on': first.selected_on, 'selection_top1': 100 * first.selection_accuracy, 'base_lr': first.base_lr,
        'lr': first.lr, 'weight_decay': first.weight_decay, 'epoch': first.epoch, 'heads': len(settings.linear.grid),
        'batch_size': settings.linear.batch_size, 'batch_norm': settings.linear.batch_norm,
        'lr_scale': 'as released: base × batch × world size / 256' if settings.linear.as_released
        else 'linear rule: base × batch / 256'}


def run_fewshot(data: FrozenData, settings: ProtocolSettings) -> dict:
    """Logistic regression on few images: a list, or for every seed a drawn one."""
    accuracies, rows = [], None
    for offset in range(1 if settings.fewshot_list else settings.seeds):
        drawn = fewshot_rows(data, settings, settings.linear.seed + offset)
        rows = drawn if rows is None else rows
        accuracies.append(logreg_accuracy(data, drawn))
    names = [data.train_names[row] for row in rows] if len(data.train_names) else [str(row) for row in rows]
    return {**over_seeds(accuracies, len(data.test_labels)), 'train_images': len(rows),
            'list': settings.fewshot_list or 'drawn, class-balanced', 'list_sha256': sha256_of_list(names),
            'lambda': LAMBDA_TIMES_N / len(rows)}


def run_shots(data: FrozenData, settings: ProtocolSettings) -> dict:
    """Logistic regression on a few images a class, mean over drawn splits, for every number of them.

    As MSN (Assran et al., ECCV 2022) and MIM-Refiner evaluate, on three splits. Theirs are lists of images; here every
    split is drawn from a seed.
    """
    labels, splits, found = data.train_labels.cpu().numpy(), max(SPLITS, settings.seeds), {}
    for count in settings.shots:
        accuracies = [logreg_accuracy(data, pick_per_class(
            labels, count, settings.linear.seed + offset, data.classes))
                      for offset in range(splits)]
        found[str(count)] = {'top1': 100 * fmean(accuracies), 'top1_by_split': [100 * value for value in accuracies],
                             'std_over_splits': 100 * stdev(accuracies)}
    headline = found[str(settings.shots[0])]['top1']
    return {**percent(headline / 100, len(data.test_labels)), 'images_per_class': settings.shots[0], 'splits': splits,
            'by_images_per_class': found}


def logreg_accuracy(data: FrozenData, rows: np.ndarray) -> float:
    """Accuracy of logistic regression on some of the training images."""
    index = torch.from_numpy(rows).to(data.train_features.device)
    labels = data.train_labels.to(index.device)[index]
    return fewshot_logreg(data.train_features[index], labels, data.test_features, data.test_labels,
                          data.num_classes, classes=data.classes).accuracy


def fewshot_rows(data: FrozenData, settings: ProtocolSettings, seed: int) -> np.ndarray:
    """Rows of the few-shot images."""
    if settings.fewshot_list:
        return read_list(settings.fewshot_list, data.train_names)
    labels = data.train_labels.cpu().numpy()
    if settings.fewshot_per_class is not None:
        return pick_per_class(labels, settings.fewshot_per_class, seed, data.classes)
    return pick_share(labels, settings.fewshot_share, seed)


def over_seeds(accuracies: Sequence[float], total: int) -> dict:
    """Mean accuracy over seeds with the interval of one test set of ``total`` images, and the spread over seeds."""
    result = percent(fmean(accuracies), total)
    if len(accuracies) > 1:
        result['top1_by_seed'] = [100 * accuracy for accuracy in accuracies]
        result['std_over_seeds'] = 100 * stdev(accuracies)
    return result


FROZEN_PROTOCOLS: dict[str, Callable[[FrozenData, ProtocolSettings], dict]] = {
    'knn': run_knn, 'linear': run_linear, 'fewshot-1': run_fewshot, 'shots': run_shots}
