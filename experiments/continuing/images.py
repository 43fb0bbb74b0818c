"""The images: CIFAR-10 is the new domain, of which there are images without labels, Fashion-MNIST the old one.

Of each class of the training sets come, without overlap, images to learn from (CIFAR-10 only), images whose neighbors
are asked for, and held-out ones, on which rates may be chosen; the test sets are for the last word alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmpretrain.datasets import CIFAR10, FashionMNIST
from PIL import Image
from torch import Tensor

from experiments.fashion_mnist import prepare_fashion_mnist
from mm_graft.image_folders import list_images

OWN, BANK, HELD_OUT, TEST = 150, 100, 50, 100  # images of each class
NEW, OLD = 'CIFAR-10', 'Fashion-MNIST'


@dataclass(frozen=True)
class Labeled:
    """Images (N, 3, H, W) in 0…255 with their classes (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Domain:
    """What kNN needs of a data set.

    Attributes:
        bank: whose neighbors are asked for.
        held_out: more images of the training set.
        test: of the test set.
    """

    bank: Labeled
    held_out: Labeled
    test: Labeled


def per_class(labels: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """Rows of consecutive shares of every class, so many of each in each share, in the order of the rows."""
    labels = np.asarray(labels)
    shares: list[list[int]] = [[] for _ in counts]
    for label in np.unique(labels):
        rows, start = np.flatnonzero(labels == label), 0
        for share, count in zip(shares, counts):
            share.extend(rows[start:start + count].tolist())
            start += count
    return [sorted(share) for share in shares]


def prepare_cifar10(root: Path) -> Path:
    """A folder of images for each class below ``root/train`` and ``root/test``, from mmpretrain's download if missing.

    Raises:
        RuntimeError: the data set's server cannot be reached.
    """
    for split in ('train', 'test'):
        if not (root / split).is_dir():
            try:
                data = CIFAR10(data_root=str(root), split=split, test_mode=split == 'test')
            except OSError as error:
                raise RuntimeError(f'CIFAR-10 could not be fetched ({error}); put a folder of images for each class '
                                   f'into {root}/train and {root}/test') from error
            write_classes(data, root / split)
    return root


def write_classes(data: CIFAR10, folder: Path) -> None:
    """The first images of each class that the experiment needs, as PNG files; the folder appears when complete."""
    labels = [int(data.get_data_info(row)['gt_label']) for row in range(len(data))]
    classes = data.metainfo['classes']
    part = folder.with_name(f'{folder.name}.part')
    for row in per_class(labels, [OWN + BANK + HELD_OUT])[0]:
        place = part / classes[labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.get_data_info(row)['img']).save(place / f'{row:05d}.png')
    part.rename(folder)


def read_cifar10(root: Path) -> tuple[list[str], Domain]:
    """Names below ``root/train`` of the images to learn from, and the labeled ones."""
    train, test = (list_images(root / split, labeled=True) for split in ('train', 'test'))
    own, bank, held_out = per_class(train.labels, [OWN, BANK, HELD_OUT])
    parts = [(train, bank), (train, held_out), (test, per_class(test.labels, [TEST])[0])]
    return [train.names[row] for row in own], Domain(*(
        Labeled(torch.stack([pixels(Path(images.root) / images.names[row]) for row in rows]),
                torch.tensor(images.labels)[rows]) for images, rows in parts))


def pixels(path: Path) -> Tensor:
    """An image file as (3, H, W), RGB."""
    return torch.from_numpy(np.asarray(Image.open(path).convert('RGB')).copy()).permute(2, 0, 1)


def read_fashion_mnist(root: Path) -> Domain:
    """The labeled images, gray in three equal channels."""
    data = {name: FashionMNIST(data_root=str(prepare_fashion_mnist(root)), download=False, test_mode=name == 'test')
            for name in ('train', 'test')}
    labels = {name: [int(each.get_data_info(row)['gt_label']) for row in range(len(each))]
              for name, each in data.items()}
    parts = [('train', rows) for rows in per_class(labels['train'], [BANK, HELD_OUT])]
    parts.append(('test', per_class(labels['test'], [TEST])[0]))
    return Domain(*(
        Labeled(torch.stack([torch.as_tensor(data[name].get_data_info(row)['img']).expand(3, -1, -1) for row in rows]),
                torch.tensor(labels[name])[rows]) for name, rows in parts))
