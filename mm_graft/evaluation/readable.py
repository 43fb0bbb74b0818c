"""Go on when an image is corrupt: name it, count it, leave it out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

START_OF_SCAN, END_OF_IMAGE = b'\xff\xda', b'\xff\xd9'


class UnreadableImageError(ValueError):
    """An image that cannot be read; the message names it."""


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be read: its index in the data set, its name and why."""

    index: int
    name: str
    reason: str


class ReadableImages(Dataset):
    """Items of a host data set by chosen indices; an item that cannot be read comes as :class:`Unreadable`.

    A JPEG that ends before its end-of-image marker counts as unreadable: decoders fill the rest with grey and say
    nothing.

    Args:
        dataset: a host data set.
        indices: which items, in this order.
        strict: raise instead.
    """

    def __init__(self, dataset: Dataset, indices: list[int], strict: bool = False) -> None:
        self.dataset, self.indices, self.strict = dataset, indices, strict

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, object]:
        index = self.indices[position]
        path = self.dataset.get_data_info(index).get('img_path')
        try:
            if path is not None and is_truncated_jpeg(Path(path)):
                raise UnreadableImageError('the JPEG ends early')
            item = self.dataset[index]
        except Exception as error:  # whatever a decoder or a transform throws at a broken file
            name = str(path or index)
            if self.strict:
                raise UnreadableImageError(f'cannot read image {name}: {error}') from error
            return index, Unreadable(index, name, str(error) or type(error).__name__)
        return index, item


def is_truncated_jpeg(path: Path) -> bool:
    """True for a local JPEG file without an end-of-image marker after its last scan."""
    if path.suffix.lower() not in ('.jpg', '.jpeg') or not path.is_file():
        return False
    content = path.read_bytes()
    return START_OF_SCAN in content and content.rfind(END_OF_IMAGE) < content.rfind(START_OF_SCAN)


def collate_readable(items: list[tuple[int, object]]) -> dict:
    """A host batch (``inputs``, ``data_samples``) of what could be read, its ``indices``, and what could not."""
    good = [(index, item) for index, item in items if not isinstance(item, Unreadable)]
    return {
        'batch': {'inputs': [item['inputs'] for _, item in good],
                  'data_samples': [item['data_samples'] for _, item in good]},
        'indices': torch.tensor([index for index, _ in good], dtype=torch.long),
        'unreadable': [item for _, item in items if isinstance(item, Unreadable)]}


def make_loader(batch_size: int, workers: int) -> Callable[[Dataset], DataLoader]:
    """A function that makes the data loader of :class:`ReadableImages`, in order."""
    return lambda dataset: DataLoader(
        dataset, batch_size=batch_size, num_workers=workers, collate_fn=collate_readable, shuffle=False)


class ReadableBatches:
    """Host batches of a loader of :class:`ReadableImages`.

    Args:
        loader: see :func:`make_loader`.
        unreadable: the images that could not be read are appended here.
        indices: the indices of each batch are appended here just before the batch is handed over.
    """

    def __init__(self, loader: DataLoader, unreadable: list, indices: list) -> None:
        self.loader, self.unreadable, self.indices = loader, unreadable, indices

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict]:
        for item in self.loader:
            self.unreadable.extend(item['unreadable'])
            if len(item['indices']):
                self.indices.append(item['indices'])
                yield item['batch']
