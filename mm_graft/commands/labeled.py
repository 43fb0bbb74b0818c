"""Labeled images on the command line: a folder a class, instead of the data of the config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import check_files

if TYPE_CHECKING:
    from mmengine.config import Config

TRAIN, TESTS = 'train', ('val', 'test')


def add_labeled(parser: argparse.ArgumentParser) -> None:
    """Where labeled images are."""
    parser.add_argument('--labels', metavar='FOLDER', help='images of known classes to learn from, a folder each, '
                        'instead of the data of the config; or a folder with `train` and `val` in it')
    parser.add_argument('--val', metavar='FOLDER', help='images to score on, a folder for each of the same classes '
                        '(default: `val` or `test` in or beside the folder of --labels)')


def labeled_folders(labels: str, val: str | None = None) -> tuple[Path, Path | None]:
    """Folders of the images to learn from and to score on; None for the second if there is none."""
    check_files('folder', labels, *([val] if val else []))
    train = Path(labels) / TRAIN if (Path(labels) / TRAIN).is_dir() else Path(labels)
    if val:
        return train, Path(val)
    beside = train.parent if train.name == TRAIN else train / 'no such folder'
    return train, next((beside / name for name in TESTS if (beside / name).is_dir()), None)


def use_labeled(cfg: Config, labels: str | None, val: str | None) -> Config:
    """Make a config read labeled images from folders, with the test transform of its encoder."""
    if labels is None:
        if val is not None:
            raise ValueError(f'--val {val} needs images to learn from; give --labels')
        return cfg
    train, test = labeled_folders(labels, val)
    if test is None:
        raise ValueError(f'--labels {labels}: there are no images to score on; put `train` and `val` into it, or give '
                         '--val')
    from mm_graft.evaluation.datasets import folder_of_images
    sets = {loader: folder_of_images(cfg, data_root=str(folder), with_label=True)
            for loader, folder in (('train_dataloader', train), ('test_dataloader', test))}
    for loader, dataset in sets.items():  # `update` would leave what it has beside, such as `indices`
        cfg[loader] = {**(cfg.get(loader) or {}), 'dataset': dataset}
    cfg.test_dataloader.dataset.pop('pipeline')  # then it is the default one, for both
    return cfg
