r"""Resampling that shows rare tags more often than they occur.

.. math:: w_i = \max_{t \in \text{tags}(i)} f_t^{-p}, \qquad \mathrm{E}[\text{copies of } i] = n \, w_i / \sum_j w_j

with f_t the number of images that carry tag t. p = ½, the inverse square root, is what hashtag pre-training has used
since Mahajan et al. 2018 (arXiv 1805.00932); p = 0 shows every image alike.
"""

from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mm_graft.registry import DATA_SAMPLERS


def image_weights(labels: np.ndarray, starts: np.ndarray, power: float) -> np.ndarray:
    """Weights (N,) of images whose labels (T,) lie one after another, those of image i from ``starts[i]`` (N + 1,)."""
    frequency = np.bincount(labels)
    rarity = frequency.clip(1).astype(np.float64)**-power
    return np.maximum.reduceat(rarity[labels], starts[:-1])


def systematic_sample(weights: np.ndarray, count: int, offset: float) -> np.ndarray:
    """``count`` indices, ascending, in which index i stands count · w_i / Σw times, rounded up or down.

    Points in steps of Σw / count, the first at ``offset`` (0…1) of a step, fall into intervals as long as the weights.
    """
    ends = np.cumsum(weights) * (count / weights.sum())
    points = np.arange(count) + offset
    return np.searchsorted(ends, points, side='right').clip(max=len(weights) - 1)


@DATA_SAMPLERS.register_module()
class RareTagSampler(Sampler):
    """Images in random order, those with rare tags several times, those with frequent ones not in every epoch.

    Every epoch draws again; seed and epoch determine it, alike on all processes, of which each takes its share.

    The host's ``ClassBalancedDataset`` repeats images by the same rule from a threshold on, but never leaves one out,
    and holds a Python list of all images.

    Args:
        dataset: ``mm_graft.TaggedImages``, or any data set with ``get_cat_ids``.
        power: p.
        num_samples: images in an epoch, on all processes together; the size of the data set if None.
        seed: of the draws; common to all processes if None.
        round_up: let every process have equally many, by showing some again.
    """

    def __init__(self, dataset: Sized, power: float = 0.5, num_samples: int | None = None, seed: int | None = None,
                 round_up: bool = True) -> None:
        if power < 0:
            raise ValueError(f'power={power} would show frequent tags more often; choose power ≥ 0')
        self.count = len(dataset) if num_samples is None else num_samples
        if self.count < 1:
            raise ValueError(f'{self.count} images in an epoch; choose num_samples ≥ 1')
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch, self.round_up = 0, round_up
        self.weights = image_weights(*label_rows(dataset), power)

    def __iter__(self) -> Iterator[int]:
        """This process's share of the epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        offset = float(torch.rand((), generator=generator))
        chosen = torch.from_numpy(systematic_sample(self.weights, self.count, offset))
        shown = chosen[torch.randperm(self.count, generator=generator)]
        if self.round_up:
            shown = shown.repeat(2 if self.count >= self.world_size else self.world_size)[:len(self) * self.world_size]
        return iter(shown[self.rank::self.world_size].tolist())

    def __len__(self) -> int:
        """Images of this process in an epoch."""
        if self.round_up:
            return -(-self.count // self.world_size)
        return max(0, -(-(self.count - self.rank) // self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another draw."""
        self.epoch = epoch


def label_rows(dataset: Sized) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all images one after another, (T,), and where each image's begin, (N + 1,)."""
    if hasattr(dataset, 'label_rows'):
        return dataset.label_rows()
    rows = [dataset.get_cat_ids(index) for index in range(len(dataset))]
    starts = np.cumsum([0, *map(len, rows)])
    return np.concatenate([np.asarray(row, np.int64) for row in rows]), starts
