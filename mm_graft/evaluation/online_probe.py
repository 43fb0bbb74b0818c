"""Measures of an encoder in training, on a bounded number of images: kNN and a linear probe, or without labels."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.data import Dataset

from mm_graft.encoders import Encoder, normalization_of
from mm_graft.equations import evenly_spaced
from mm_graft.evaluation.datasets import (
    build_dataset,
    build_datasets,
    folder_of_images,
    image_labels,
    kind_of,
    training_set_config,
)
from mm_graft.evaluation.features import encode, encode_together, evaluating
from mm_graft.evaluation.knn import knn_accuracy
from mm_graft.evaluation.label_free import label_free_measures
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid
from mm_graft.evaluation.reading import read_images
from mm_graft.evaluation.splits import at_most
from mm_graft.registry import METRICS


def with_sets(cfg: Config, train: dict, test: dict | None) -> Config:
    """A config with other data sets for an evaluation; ``test`` None is what lies beside ``train``."""
    reading = {key: value for key, value in folder_of_images(cfg).items() if key != 'type'}
    reading = reading if kind_of(train) == 'ImageFolder' else {'pipeline': reading['pipeline']}
    return Config({**cfg, 'val_dataloader': None, 'train_dataloader': {'dataset': {**reading, **train}},
                   'test_dataloader': None if test is None else {'dataset': test}})


@METRICS.register_module()
class OnlineProbe:
    """Accuracies of an encoder's frozen features; each process encodes its share of the images.

    Args:
        cfg: a config with data sets and ``model.data_preprocessor``, see :mod:`mm_graft.evaluation.datasets`.
        train: the config of another labeled training set, in the place of that of ``cfg``; a pipeline is not needed.
        test: the config of its test set; the one beside ``train`` if None.
        train_images: images to learn from at most, a class-balanced share of the training set.
        test_images: images to score at most.
        batch_size: images encoded at once.
        workers: processes that read images.
        pool: ``'cls'`` or ``'avg'``.
        k: neighbors.
        temperature: τ of kNN.
        linear_epochs: epochs of the linear probe; 0 leaves it out.
        base_lrs: base learning rates of the linear probe.
    """

    def __init__(self, cfg: Config, train: dict | None = None, test: dict | None = None, train_images: int = 10000,
                 test_images: int = 10000, batch_size: int = 256, workers: int = 2, pool: str = 'cls', k: int = 20,
                 temperature: float = 0.07, linear_epochs: int = 20,
                 base_lrs: Sequence[float] = (0.01, 0.1, 1, 10)) -> None:
        if test is not None and train is None:
            raise ValueError('OnlineProbe has a test set of its own, but no training set; give `train` too')
        self.sets = build_datasets(cfg if train is None else with_sets(cfg, train, test))
        self.rows = [at_most(image_labels(dataset), count)
                     for dataset, count in zip(self.sets, (train_images, test_images))]
        self.normalization = normalization_of(cfg)
        self.batch_size, self.workers = batch_size, workers
        self.pool, self.k, self.temperature = pool, k, temperature
        self.settings = LinearProbeSettings(
            tuple(sweep_grid(base_lrs, (0,))), linear_epochs, batch_size=1024) if linear_epochs else None

    def evaluate(self, backbone: nn.Module) -> dict[str, float]:
        """``knn_top1`` and ``linear_top1`` in percent, the same on every process. The encoder keeps its mode."""
        (train, train_labels), (test, test_labels) = (
            self._features(backbone, dataset, rows) for dataset, rows in zip(self.sets, self.rows))
        k = min(self.k, len(train))
        accuracy = knn_accuracy(train, train_labels, test, test_labels, (k,), self.temperature)[k]
        result = {'knn_top1': 100 * accuracy}
        if self.settings is not None:
            result['linear_top1'] = 100 * linear_probe(
                train, train_labels, test, test_labels, settings=self.settings).accuracy
        return result

    def _features(self, backbone: nn.Module, dataset: Dataset, rows: list[int]) -> tuple[Tensor, Tensor]:
        encoder = Encoder(backbone, **self.normalization).to(next(backbone.parameters()).device)
        batches = list(encode_together(encoder, dataset, rows, self.pool, self.batch_size, self.workers))
        if not batches:
            raise ValueError(f'none of {len(rows)} images can be used')
        features, labels = (torch.cat(column) for column in zip(*batches))
        return features, labels


@METRICS.register_module()
class LabelFreeProbe:
    """RankMe, LiDAR and α-ReQ, see :mod:`mm_graft.evaluation.label_free`; for ``mm_graft.OnlineKNNHook``.

    The images are read once, as an evaluation sees them, and kept. Every process measures the same.

    Args:
        cfg: a config with training data and ``model.data_preprocessor``.
        images: at most so many, evenly spread over the training set; unreadable ones are left out.
        pool: ``'cls'`` or ``'avg'``.
    """

    def __init__(self, cfg: Config, images: int = 200, pool: str = 'cls') -> None:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        dataset = build_dataset(training_set_config(cfg))
        rows = evenly_spaced(len(dataset), images).tolist()
        self.normalization, self.pool = normalization_of(cfg), pool
        found = [image for batch in read_images(dataset, rows, 32, 0) for image in batch.inputs]
        if len(found) < 2:
            raise ValueError(f'{len(found)} of {len(rows)} images can be read; the measures need at least 2')
        pixels = torch.stack(found)
        self.pixels = pixels.flip(1) if self.normalization['to_rgb'] else pixels  # (N, C, H, W), RGB

    def evaluate(self, backbone: nn.Module) -> dict[str, float]:
        """The measures, by name. The encoder keeps its mode."""
        encoder = Encoder(backbone, **self.normalization).to(next(backbone.parameters()).device)
        with evaluating(backbone):
            return label_free_measures(
                lambda pixels: encode(backbone, encoder.normalize(pixels), self.pool), self.pixels)
