"""Write a few-shot list of a data set; see :mod:`mm_graft.evaluation.splits`."""

from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mm_graft.channel_files import CHANNEL_EXTENSIONS
from mm_graft.evaluation.datasets import build_dataset, dataset_configs, image_labels, image_names
from mm_graft.evaluation.splits import pick_per_class, pick_share, read_list, write_list


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
        rows = pick_share(labels, share, seed) if per_class is None else pick_per_class(labels, per_class, seed)
    sha256 = write_list(out, [names[row] for row in rows], labels[rows])
    return {'images': len(rows), 'classes': len(set(labels[rows].tolist())), 'sha256': sha256}
