"""Features on disk: extracted once, mapped into memory, found again by weights, data and transform."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size, is_main_process
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mm_graft.evaluation.features import feature_batches
from mm_graft.evaluation.readable import ReadableBatches, ReadableImages, Unreadable

NO_LABEL = -1


@dataclass(frozen=True)
class Features:
    """Features of a data set.

    Attributes:
        features: (N, D) of the images that could be read, float32 or float16, mapped from the disk.
        labels: (N,).
        indices: (N,) positions of these images in the data set.
        unreadable: the images that are left out.
        from_cache: they were found, not extracted.
    """

    features: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: list[Unreadable]
    from_cache: bool


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(2 ** 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_dataset(dataset: Dataset) -> str:
    """SHA-256 of what a host data set holds: labels, and names, sizes and times of files or the pixels in memory."""
    digest = hashlib.sha256(repr(getattr(dataset, 'metainfo', None)).encode())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        path, image = info.get('img_path'), info.get('img')
        digest.update(f'{path}|{info.get("gt_label")}|'.encode())
        if path is not None and os.path.exists(path):
            status = os.stat(path)
            digest.update(f'{status.st_size}|{status.st_mtime_ns}|'.encode())
        elif image is not None:
            digest.update(np.ascontiguousarray(np.asarray(image)).tobytes())
    return digest.hexdigest()


def cache_key(**parts: object) -> str:
    """Short SHA-256 of everything that the features depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


class FeatureCache:
    """A folder of features. A set is written beside its place and moved there when complete, never before.

    Args:
        root: the folder, made when needed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def load(self, key: str) -> Features | None:
        """Features kept under ``key``, or None."""
        folder = self.root / key
        if not (folder / 'meta.json').is_file():
            return None
        unreadable = [Unreadable(**entry) for entry in json.loads((folder / 'meta.json').read_text())['unreadable']]
        features = torch.from_numpy(np.load(folder / 'features.npy', mmap_mode='c'))
        labels = torch.from_numpy(np.load(folder / 'labels.npy'))
        rows = (labels != NO_LABEL).nonzero().flatten()
        if len(rows) < len(labels):
            features, labels = features[rows], labels[rows]
        return Features(features, labels, rows, unreadable, from_cache=True)

    def extract(
        self, key: str, model: nn.Module, dataset: Dataset, pool: str, loader: Callable[[Dataset], DataLoader],
        strict: bool = False,
    ) -> Features:
        """Extract the features of a data set, each process its share, and keep them under ``key``.

        Args:
            key: from :func:`cache_key`.
            model: what :func:`feature_batches` takes.
            dataset: a host data set.
            pool: ``'cls'`` or ``'avg'``.
            loader: makes a data loader of a data set; see :func:`mm_graft.evaluation.readable.make_loader`.
            strict: an unreadable image is an error.

        Raises:
            ValueError: no image could be read, or none has a label.
            UnreadableImageError: with ``strict``, for the first unreadable image.
        """
        part = self.root / f'{key}.part'
        shard = ReadableImages(dataset, list(range(get_rank(), len(dataset), get_world_size())), strict)
        unreadable = self._write_shard(part, model, loader(shard), pool, len(dataset))
        shares = all_gather_object(unreadable)
        if is_main_process():
            self._finish(part, key, [entry for share in shares for entry in share])
        barrier()
        kept = self.load(key)
        return Features(kept.features, kept.labels, kept.indices, kept.unreadable, from_cache=False)

    def _write_shard(
        self, part: Path, model: nn.Module, loader: DataLoader, pool: str, count: int,
    ) -> list[Unreadable]:
        unreadable, indices = [], []
        features, labels = None, None
        for batch_features, batch_labels in feature_batches(model, ReadableBatches(loader, unreadable, indices), pool):
            if features is None:
                dtype = np.float16 if batch_features.is_cuda else np.float32
                features, labels = _open_shared(part, (count, batch_features.shape[1]), dtype)
            rows = indices.pop(0).numpy()
            features[rows] = batch_features.cpu().numpy()
            labels[rows] = batch_labels.numpy()
        if features is None:
            first = f'; first {unreadable[0].name}: {unreadable[0].reason}' if unreadable else ''
            raise ValueError(f'none of {len(loader.dataset)} images could be read{first}')
        features.flush()
        labels.flush()
        return unreadable

    def _finish(self, part: Path, key: str, unreadable: list[Unreadable]) -> None:
        unreadable = sorted(unreadable, key=lambda entry: entry.index)
        (part / 'meta.json').write_text(json.dumps({'unreadable': [asdict(entry) for entry in unreadable]}))
        shutil.rmtree(self.root / key, ignore_errors=True)
        os.replace(part, self.root / key)


def _open_shared(part: Path, shape: tuple[int, int], dtype: type) -> tuple[np.memmap, np.memmap]:
    """Files that all processes write into: made by the main one, all labels missing, then opened by the others."""
    if is_main_process():
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        np.lib.format.open_memmap(part / 'features.npy', 'w+', dtype, shape).flush()
        labels = np.lib.format.open_memmap(part / 'labels.npy', 'w+', np.int64, shape[:1])
        labels[:] = NO_LABEL
        labels.flush()
    barrier()
    return (np.lib.format.open_memmap(part / 'features.npy', 'r+'),
            np.lib.format.open_memmap(part / 'labels.npy', 'r+'))
