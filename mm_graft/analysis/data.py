"""Batches for the analyses: as training sees them, or as evaluation does."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset


def training_batches(cfg: Config, count: int, batch_size: int, workers: int = 0, seed: int = 0) -> list[dict]:
    """The first batches of a config's training data in the order of a seed, as its pipeline gives them.

    The data preprocessor has not been applied.
    """
    if cfg.get('train_dataloader') is None:
        raise ValueError('the config has no `train_dataloader`; give the config of the pre-training')
    settings = {'collate_fn': {'type': 'default_collate'}, **cfg.train_dataloader, 'batch_size': batch_size,
                'num_workers': workers, 'drop_last': True, 'persistent_workers': False, 'pin_memory': False}
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the state that pipelines draw from
    loader = Runner.build_dataloader(settings, seed=seed)
    batches = list(islice(loader, count))
    if not batches:
        raise ValueError(f'the training data hold fewer than {batch_size} images; choose a smaller batch size')
    return batches


def pixels_of(item: dict, to_rgb: bool) -> Tensor:
    """Image (3, H, W) in RGB of a host data set's item, whose loader may give BGR."""
    return item['inputs'].flip(0) if to_rgb else item['inputs']


def image_batches(dataset: Dataset, indices: np.ndarray, to_rgb: bool, batch_size: int) -> Iterator[Tensor]:
    """Images (B, 3, H, W) in 0…255, RGB, batch by batch, at ``indices`` of a host data set."""
    for start in range(0, len(indices), batch_size):
        yield torch.stack([pixels_of(dataset[int(index)], to_rgb) for index in indices[start:start + batch_size]])


def balanced(labels: np.ndarray, classes: int, per_class: int) -> np.ndarray:
    """Indices of the first ``per_class`` images of the first ``classes`` classes, class by class."""
    chosen = np.unique(labels)[:classes]
    return np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in chosen])
