"""Few-shot lists: class-balanced and seeded, or the public ones.

A list is a text file of ``path label`` lines, paths below the data set's folder, so that the host's ``CustomDataset``
and ``ImageNet`` read it as ``ann_file``. Reading also takes lists of bare file names, such as SimCLR's public 1 % and
10 % of ImageNet.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mm_graft.channel_files import CHANNEL_EXTENSIONS
from mm_graft.evaluation.datasets import build_dataset, class_names, dataset_configs, image_labels, image_names
from mm_graft.files import read_small_text, write_text
from mm_graft.spelling import named


def pick_per_class(labels: np.ndarray, per_class: int, seed: int, classes: Sequence[str] = ()) -> np.ndarray:
    """Sorted indices of ``per_class`` random images of every class; ``classes`` are their names for messages."""
    if per_class < 1:
        raise ValueError(f'per_class={per_class}; take at least 1 image a class')
    counts = np.bincount(labels)
    short = [label for label, count in enumerate(counts) if 0 < count < per_class]
    if short:
        raise ValueError(
            f'class {named(short, classes)[0]!r} has {counts[short[0]]} images, fewer than per_class={per_class}; take '
            f'at most {counts[counts > 0].min()}')
    return _pick(labels, np.full(len(counts), per_class), seed)


def pick_share(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted indices of a random share of every class, at least one image each, rounded to whole images."""
    if not 0 < share <= 1:
        raise ValueError(f'share={share} lies outside (0, 1]; 0.01 is 1 %')
    return _pick(labels, np.maximum(1, np.rint(np.bincount(labels) * share)).astype(int), seed)


def at_most(labels: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """About ``count`` rows, a random share of every class, at least one each; all rows if there are no more."""
    if count >= len(labels):
        return list(range(len(labels)))
    return pick_share(labels, count / len(labels), seed).tolist()


def _pick(labels: np.ndarray, quota: np.ndarray, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind='stable')]  # class by class, random within a class
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    return np.sort(order[rank < quota[labels[order]]])


def write_list(path: str | Path, names: Sequence[str], labels: Sequence[int]) -> str:
    """Write a list and return its SHA-256; the file appears when complete."""
    content = ''.join(f'{name} {label}\n' for name, label in zip(names, labels, strict=True))
    write_text(path, content)
    return sha256_of_list(names)


def sha256_of_list(names: Sequence[str]) -> str:
    """SHA-256 of the sorted names, one a line: the same list in another order is the same list."""
    return hashlib.sha256(''.join(f'{name}\n' for name in sorted(names)).encode()).hexdigest()


def read_list(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """Sorted indices of the images that a list names: one a line, by path or bare file name, a label behind or not."""
    if not Path(path).is_file():
        raise ValueError(f'few-shot list {path} does not exist; mm_graft split writes one')
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        for known in {name, name.rsplit('/', 1)[-1]}:
            by_name.setdefault(known, []).append(index)
    wanted = [_name_of(line) for line in read_small_text(path).splitlines() if line.strip()]
    unknown = [name for name in wanted if len(by_name.get(name, ())) != 1]
    if not wanted or unknown:
        problem = f'{len(unknown)} of {len(wanted)} images are not in the data set or not unique' if wanted else 'empty'
        raise ValueError(f'few-shot list {path}: {problem}{", first " + unknown[0] if unknown else ""}; use a list of '
                         'this data set')
    return np.unique([by_name[name][0] for name in wanted])


def _name_of(line: str) -> str:
    name, _, label = line.strip().rpartition(' ')
    return name if name and label.isdigit() else line.strip()


def make_split(source: Config | Path, out: str | Path, share: float | None = None, per_class: int | None = None,
               from_list: str | None = None, seed: int = 0) -> dict:
    """Write a list by exactly one of ``share``, ``per_class`` and ``from_list``.

    Returns its ``images``, ``classes`` and ``sha256``. ``source`` is a config, whose training set is used, or a folder
    with one folder a class. Of a public list the names are checked, and the labels taken from the data.
    """
    if sum(way is not None for way in (share, per_class, from_list)) != 1:
        raise ValueError(f'share={share}, per_class={per_class}, from_list={from_list}; give exactly one')
    init_default_scope('mmpretrain')
    if isinstance(source, Path):
        dataset = build_dataset({'type': 'mm_graft.ImageFolder', 'data_root': str(source),
                                 'extensions': CHANNEL_EXTENSIONS})
    else:
        dataset = build_dataset(dataset_configs(source)[0])
    labels, names = image_labels(dataset), image_names(dataset)
    if from_list is not None:
        rows = read_list(from_list, names)
    else:
        rows = pick_share(labels, share, seed) if per_class is None else pick_per_class(
            labels, per_class, seed, class_names(dataset))
    sha256 = write_list(out, [names[row] for row in rows], labels[rows])
    return {'images': len(rows), 'classes': len(set(labels[rows].tolist())), 'sha256': sha256}
