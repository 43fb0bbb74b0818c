"""Images of a data set by index; one that cannot be used is named and left out: here no other one may replace it.

What can be used, and why not, is the loader's to say (``mm_graft.LoadImageFromFile``).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mm_graft.host.loader_processes import outlive_signals
from mm_graft.random_state import random_state_kept, seed_host_generators


class BadImage(NamedTuple):
    """An image that cannot be used: its index in the data set, its name and why."""

    index: int
    name: str
    reason: str


class ImageBatch(NamedTuple):
    """Packed images, their indices in the data set (B,), and the images that were skipped."""

    inputs: list[Tensor]
    data_samples: list
    indices: Tensor
    bad: list[BadImage]


class IndexedImages(Dataset):
    """Items of a host data set by chosen indices, in their order; bad ones as :class:`BadImage`.

    Args:
        indices: which items.
        strict: a bad image is an error.
        draws: numbers from which, with its index, follows what an image's transforms draw; None: they draw on.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], strict: bool = False,
                 draws: tuple[int, ...] | None = None) -> None:
        self.dataset, self.indices, self.strict, self.draws = dataset, indices, strict, draws

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, dict | BadImage]:
        index = self.indices[position]
        try:
            return index, self._item(index)
        except Exception as error:  # whatever a decoder or a transform throws at a broken file
            name = str(self.dataset.get_data_info(index).get('img_path') or index)
            reason = str(error) or type(error).__name__
            if self.strict:
                raise ValueError(reason if name in reason else f'image {name} cannot be used: {reason}') from error
            return index, BadImage(index, name, reason)

    def _item(self, index: int) -> dict:
        if self.draws is None:
            return self.dataset[index]
        with random_state_kept() if get_worker_info() is None else nullcontext():
            seed_host_generators(*self.draws, index)
            return self.dataset[index]


def read_images(
    dataset: Dataset, indices: Sequence[int], batch_size: int, workers: int, strict: bool = False,
    draws: tuple[int, ...] | None = None,
) -> DataLoader:
    """A loader of :class:`ImageBatch` in the order of ``indices``; batches without a usable image come too.

    Bad images count in ``batch_size``; with ``strict`` one is an error. For ``draws`` see :class:`IndexedImages`.
    """
    return outlive_signals(DataLoader(
        IndexedImages(dataset, indices, strict, draws), batch_size, num_workers=workers, collate_fn=_collate))


def _collate(items: list[tuple[int, dict | BadImage]]) -> ImageBatch:
    good = [(index, item) for index, item in items if not isinstance(item, BadImage)]
    return ImageBatch(
        [item['inputs'] for _, item in good], [item['data_samples'] for _, item in good],
        torch.tensor([index for index, _ in good], dtype=torch.long),
        [item for _, item in items if isinstance(item, BadImage)])
