"""Which image a sample is, and of which class: what a method that remembers images asks of the data."""

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

REMEDY = ("keep 'sample_idx' among the meta_keys of PackInputs, from a data set that counts its images (the host's "
          'BaseDataset does)')


def sample_ids(data_samples: Sequence[DataSample] | None, device: torch.device | str = 'cpu') -> Tensor:
    """The places (B,) of the images in their data set.

    The same image may come twice (an epoch ends within a batch of ``InfiniteSampler``) if its path says that it is one.

    Raises:
        ValueError: a sample has no id, or two images have the same.
    """
    ids = [sample.get('sample_idx') for sample in data_samples or ()]
    if not ids or None in ids:
        raise ValueError('the samples have no ids, so an image could become its own neighbor; ' + REMEDY)
    paths = [sample.get('img_path') for sample in data_samples]
    seen: dict[int, object] = {}
    for index, path in zip(ids, paths):
        if index in seen and (path is None or seen[index] != path):
            raise ValueError(f'two samples of a batch have the id {index} ({seen[index]}, {path}), which must tell '
                             'images apart; a ConcatDataset counts each of its parts from 0: put the images into one '
                             'data set; where an image comes twice: use DefaultSampler and drop_last=True')
        seen[index] = path
    return torch.tensor(ids).to(device)


def sample_labels(data_samples: Sequence[DataSample], device: torch.device | str = 'cpu') -> Tensor | None:
    """Their classes (B,), or None if one has none, or several."""
    labels = [sample.get('gt_label') for sample in data_samples]
    if any(label is None or label.numel() != 1 for label in labels):
        return None
    return torch.cat([label.reshape(1) for label in labels]).to(device)
