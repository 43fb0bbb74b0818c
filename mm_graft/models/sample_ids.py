"""Identity and class of a sample, for methods that remember images."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from mmengine.dist import get_world_size
from mmpretrain.structures import DataSample
from torch import Tensor

from mm_graft.models.gather import gather
from mm_graft.models.support_queue import NO_ID

REMEDY = ("keep 'sample_idx' among the meta_keys of PackInputs, from a data set that counts its images (the host's "
          'BaseDataset does)')
NO_PATH = 0
ELSEWHERE = 'an image of another process'


def sample_ids(data_samples: Sequence[DataSample] | None, device: torch.device | str = 'cpu') -> Tensor:
    """The places (B,) of the images in their data set, on ``device``.

    The same image may come twice (an epoch ends within a batch of ``InfiniteSampler``) if its path says that it is one.
    Several processes look at the batch of all: each raises what one of them would, and none waits for the others
    forever. For that a step exchanges two numbers a sample, through ``device``, and waits for them.
    """
    ids = [sample.get('sample_idx') for sample in data_samples or ()]
    paths = [sample.get('img_path') for sample in data_samples or ()]
    pairs = [(NO_ID if index is None else index, path_number(path)) for index, path in zip(ids, paths)]
    known = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    everywhere = gather(known.to(device)) if get_world_size() > 1 else known
    check_ids(everywhere.tolist(), dict(zip((number for _, number in pairs), paths)))
    return known[:, 0].to(device, non_blocking=True)


def path_number(path: str | None) -> int:
    """A 64-bit hash of a path, the same in every process."""
    if path is None:
        return NO_PATH
    return int.from_bytes(blake2b(str(path).encode(), digest_size=8).digest(), signed=True)


def check_ids(pairs: Sequence[tuple[int, int]], paths: dict[int, str | None]) -> None:
    """Check that ids tell images apart: pairs of an id and :func:`path_number` of each sample of the whole batch.

    ``paths``, by their numbers, are those that are known here.
    """
    if not pairs or any(index == NO_ID for index, _ in pairs):
        raise ValueError('the samples have no ids, so an image could become its own neighbor; ' + REMEDY)
    seen: dict[int, int] = {}
    for index, number in pairs:
        if index in seen and (number == NO_PATH or seen[index] != number):
            one, other = (paths.get(each, ELSEWHERE) for each in (seen[index], number))
            raise ValueError(f'two samples of a batch have the id {index} ({one}, {other}), which must tell '
                             'images apart; a ConcatDataset counts each of its parts from 0: put the images into one '
                             'data set; where an image comes twice: use DefaultSampler and drop_last=True')
        seen[index] = number


def sample_labels(data_samples: Sequence[DataSample], device: torch.device | str = 'cpu') -> Tensor | None:
    """Their classes (B,), or None if one has none, or several."""
    labels = [sample.get('gt_label') for sample in data_samples]
    if any(label is None or label.numel() != 1 for label in labels):
        return None
    return torch.cat([label.reshape(1) for label in labels]).to(device)
