"""Which images the data sets of a run leave out, and whether their labels mean the same classes."""

import logging
from collections import Counter
from collections.abc import Mapping
from os.path import splitext

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from torch.utils.data import Dataset

from mm_graft.datasets.image_folder import ImageFolder
from mm_graft.evaluation.datasets import class_names
from mm_graft.host.run_requests import asked_to_resume
from mm_graft.image_folders import list_images, shorten


class ClassNamesHook(Hook):
    """Refuse to test or resume a model on data with other classes than it was trained on.

    Args:
        loader: ``'test_dataloader'``, or ``'train_dataloader'``, which counts in a resumed run only: what a new run
            starts from may have other classes.
    """

    def __init__(self, loader: str) -> None:
        self.loader = loader

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare class names."""
        trained = ((checkpoint.get('meta') or {}).get('dataset_meta') or {}).get('classes')
        if trained and (self.loader == 'test_dataloader' or asked_to_resume(runner)):
            number_by_name({'the checkpoint': trained, self.loader: getattr(runner, self.loader).dataset})


def check_data_sets(sets: Mapping[str, Dataset]) -> None:
    """Check that data sets (by loader) silently leave out no image, and have the same classes."""
    for loader, dataset in sets.items():
        check_folder(loader, innermost(dataset))
    number_by_name(sets)


def innermost(dataset: Dataset) -> Dataset:
    """The data set inside wrappers such as ``RepeatDataset``."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def check_folder(loader: str, dataset: Dataset) -> None:
    """Report the images of a folder that the host's ``CustomDataset`` leaves out."""
    if not isinstance(dataset, CustomDataset) or isinstance(dataset, ImageFolder) or dataset.ann_file:
        return
    if not isinstance(get_file_backend(dataset.img_prefix, enable_singleton=True), LocalBackend):
        return
    images = list_images(dataset.img_prefix, dataset.with_label)
    left = [name for name in images.names if not dataset.is_valid_file(name)]
    endings = ', '.join(f'{ending} {count}' for ending, count in Counter(
        splitext(name)[1].lower() for name in left).most_common())
    remedy = f'--cfg-options {loader}.dataset.type=mm_graft.ImageFolder'
    if dataset.with_label:
        read = {name.split('/')[0] for name in images.names if dataset.is_valid_file(name)}
        phantoms = [name for name in dataset.folder_to_idx if name not in read]
        if phantoms:
            raise ValueError(
                f'{loader}: {type(dataset).__name__} counts folders as classes from which it reads no image: '
                f'{shorten(phantoms)}' + (f' (left out: {endings})' if left else '') + f'; {remedy} reads every format '
                'that can be decoded, and no hidden or empty folders')
    if left:
        print_log(f'{loader}: {len(left)} of {len(images.names)} images below {dataset.img_prefix} are left out by '
                  f'{type(dataset).__name__} ({endings}); {remedy} reads them', logger='current', level=logging.WARNING)


def number_by_name(sets: Mapping[str, Dataset | tuple[str, ...]]) -> None:
    """Check that all sets have the classes of the first; an `ImageFolder` with only some takes over its numbers."""
    named = {name: (dataset, classes_of(dataset)) for name, dataset in sets.items()}
    named = {name: pair for name, pair in named.items() if pair[1]}
    if len(named) < 2:
        return
    (first, (_, ours)), *others = named.items()
    for name, (dataset, theirs) in others:
        if theirs == ours:
            continue
        more, fewer = [label for label in theirs if label not in ours], [label for label in ours if label not in theirs]
        inner = innermost(dataset)
        if not more and isinstance(inner, ImageFolder) and not inner.ann_file:
            inner.number_by(ours)
            continue
        problem = '; '.join(filter(None, [
            f'only in {name}: {shorten(more)}' if more else '', f'only in {first}: {shorten(fewer)}' if fewer else '',
            '' if more or fewer else 'the order differs']))
        remedy = ('give both the same folders' if more else
                  f'--cfg-options {name}.dataset.type=mm_graft.ImageFolder numbers folders by their names')
        raise ValueError(f'{first} has {len(ours)} classes and {name} {len(theirs)}, so that labels differ: {problem}; '
                         + remedy)


def classes_of(dataset: Dataset | tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes of a data set, or the names themselves; empty if it knows none."""
    if isinstance(dataset, list | tuple):
        return tuple(dataset)
    return tuple(class_names(dataset))
