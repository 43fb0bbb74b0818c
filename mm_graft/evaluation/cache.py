"""A cache of features and scores, keyed by everything that they depend on, with checksums."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from mm_graft.evaluation.reading import BadImage
from mm_graft.evaluation.report import write_json
from mm_graft.files import CHECKSUMS, read_arrays, read_small_json, write_arrays

ARRAYS = ('features', 'labels', 'indices')


@dataclass(frozen=True)
class Features:
    """Features of a data set."""

    features: Tensor  #: (N, D) of the images that can be used, float32, mapped from the disk
    labels: Tensor  #: (N,)
    indices: Tensor  #: (N,) positions of these images in the data set, ascending
    bad: list[BadImage]  #: the images that are left out
    digest: str  #: of the features, as a name for what follows from them
    from_cache: bool = True  #: they were found, not extracted


def sha256_of_dataset(dataset: Dataset) -> str:
    """SHA-256 of a host data set: labels, and names, sizes and times of files, or the pixels in memory.

    Of the times one is that of the last change of a file's content or name, which nothing sets back; ``cp -p`` and
    ``rsync -t`` do that with the other.
    """
    digest = hashlib.sha256(repr(getattr(dataset, 'metainfo', None)).encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        path, image = info.get('img_path'), info.get('img')
        digest.update(f'{path}|{info.get("gt_label")}|'.encode())
        if path is not None and os.path.exists(path):
            status = os.stat(path)
            digest.update(f'{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|'.encode())
        elif image is not None:
            digest.update(np.ascontiguousarray(np.asarray(image)).tobytes())
    return digest.hexdigest()


def cache_key(**parts: object) -> str:
    """Short SHA-256 of everything that a cached thing depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def save_features(folder: Path, features: Tensor, labels: Tensor, indices: Tensor, bad: list[BadImage]) -> None:
    """Write a folder atomically, replacing an existing one."""
    finite = features.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f'the features of {int((~finite).sum())} of {len(features)} images are NaN or infinite; is '
                         'the checkpoint corrupt?')
    arrays = (array.numpy() for array in (features, labels, indices))
    write_arrays(folder, dict(zip(ARRAYS, arrays)), {'bad': [list(image) for image in bad]})


def load_features(folder: Path, num_images: int) -> Features | None:
    """Features of a data set of ``num_images``, None where there are none; damaged ones are named in the log."""
    if not folder.is_dir():
        return None
    try:
        return _read(folder, num_images)
    except (OSError, ValueError, TypeError) as error:
        print_log(f'extracting the features cached in {folder} again: {error}', logger='current',
                  level=logging.WARNING)
        return None


def _read(folder: Path, num_images: int) -> Features:
    arrays, facts = read_arrays(folder, ARRAYS, 'c')
    features, labels, indices = map(torch.from_numpy, arrays)
    bad = [BadImage(*image) for image in facts['bad']]
    if not (features.ndim == 2 and len(features) == len(labels) == len(indices) == num_images - len(bad)
            and features.isfinite().all() and labels.min() >= 0 and 0 <= indices.min() <= indices.max() < num_images):
        raise ValueError(f'features {tuple(features.shape)}, {len(labels)} labels and {len(bad)} bad images are not '
                         f'those of {num_images} images')
    return Features(features, labels, indices, bad, facts[CHECKSUMS]['features'])


def save_result(path: Path, result: dict) -> None:
    """Keep the result of a protocol."""
    write_json(path, {'result': result, 'sha256': cache_key(result=result)})


def load_result(path: Path) -> dict | None:
    """The result of a protocol, None where there is none; a damaged one is named in the log."""
    if not path.exists():
        return None
    try:
        kept = read_small_json(path)
        if isinstance(kept, dict) and kept.get('sha256') == cache_key(result=kept.get('result')):
            return kept['result']
        problem = 'it does not match its checksum'
    except (OSError, ValueError) as error:
        problem = str(error)
    print_log(f'computing the score cached in {path} again: {problem}', logger='current', level=logging.WARNING)
    return None
