"""Which images the data sets of a run leave out, and whether their labels mean the same classes."""

import logging
from collections import Counter
from collections.abc import Mapping
from os.path import isdir, splitext

from mmcv.transforms import LoadImageFromFile as HostLoader
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from torch.utils.data import Dataset

from mm_graft.datasets.image_folder import ImageFolder
from mm_graft.datasets.transforms.tolerant_image import LoadImageFromFile
from mm_graft.evaluation.datasets import class_names
from mm_graft.host.run_requests import asked_to_resume
from mm_graft.image_files import BadImageError, decode_image, read_image_bytes
from mm_graft.image_folders import list_images
from mm_graft.spelling import some_of

LOOKED_AT = 8  # images of a data set


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
            number_by_name({'the checkpoint': trained, **members(self.loader, getattr(runner, self.loader).dataset)})


def check_data_sets(sets: Mapping[str, Dataset]) -> None:
    """Check that data sets (by loader) silently leave out no image, and have the same classes."""
    inside = {key: dataset for loader, whole in sets.items() for key, dataset in members(loader, whole).items()}
    for key, dataset in inside.items():
        check_folder(key, dataset)
        check_pairs(key, dataset)
        check_reduction(key, dataset)
    number_by_name(inside)


def members(loader: str, dataset: Dataset) -> dict[str, Dataset]:
    """The data sets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``, ready, by key in the config."""
    waiting, found = [(f'{loader}.dataset', dataset)], {}
    while waiting:
        key, dataset = waiting.pop(0)
        inner = [(f'{key}.datasets.{index}', one) for index, one in enumerate(getattr(dataset, 'datasets', ()))]
        inner += [(f'{key}.dataset', dataset.dataset)] if hasattr(dataset, 'dataset') else []
        waiting += inner
        if not inner:
            getattr(dataset, 'full_init', lambda: None)()
            found[key] = dataset
    return found


def check_folder(key: str, dataset: Dataset) -> None:
    """Report the images of a folder that the host's ``CustomDataset`` leaves out."""
    if not isinstance(dataset, CustomDataset) or isinstance(dataset, ImageFolder) or dataset.ann_file:
        return
    if not isinstance(get_file_backend(dataset.img_prefix, enable_singleton=True), LocalBackend):
        return
    images = list_images(dataset.img_prefix, dataset.with_label)
    left = [name for name in images.names if not dataset.is_valid_file(name)]
    endings = ', '.join(f'{ending} {count}' for ending, count in Counter(
        splitext(name)[1].lower() for name in left).most_common())
    remedy = f'--cfg-options {key}.type=mm_graft.ImageFolder'
    if dataset.with_label:
        read = {name.split('/')[0] for name in images.names if dataset.is_valid_file(name)}
        phantoms = [name for name in dataset.folder_to_idx if name not in read]
        if phantoms:
            raise ValueError(
                f'{key}: {type(dataset).__name__} counts folders as classes from which it reads no image: '
                f'{some_of(phantoms)}' + (f' (left out: {endings})' if left else '') + f'; {remedy} reads every format '
                'that can be decoded, and no hidden or empty folders')
    if left:
        print_log(f'{key}: {len(left)} of {len(images.names)} images below {dataset.img_prefix} are left out by '
                  f'{type(dataset).__name__} ({endings}); {remedy} reads them', logger='current', level=logging.WARNING)


def check_pairs(key: str, dataset: Dataset) -> None:
    """Report the images and masks of a folder that mmseg leaves out, having other endings or no partner."""
    ending, mask_ending = getattr(dataset, 'img_suffix', None), getattr(dataset, 'seg_map_suffix', None)
    folders = getattr(dataset, 'data_prefix', {})
    if not ending or dataset.ann_file or not isdir(folders.get('img_path') or ''):
        return
    together = folders.get('seg_map_path') == folders['img_path']
    images = [name for name in list_images(folders['img_path']).names
              if not (together and name.endswith(mask_ending))]
    left = [name for name in images if not name.endswith(ending)]
    if left:
        print_log(f'{key}: {len(left)} of {len(images)} images below {folders["img_path"]} are left out, as img_suffix '
                  f'is {ending!r} (first {left[0]}); convert them, or join two data sets by ConcatDataset',
                  logger='current', level=logging.WARNING)
    if not isdir(folders.get('seg_map_path') or ''):
        return
    wanted = {name.replace(ending, mask_ending) for name in images}
    alone = [name for name in list_images(folders['seg_map_path']).names
             if name.endswith(mask_ending) and name not in wanted]
    if alone:
        print_log(f'{key}: {folders["seg_map_path"]} holds masks without an image: {len(alone)} (first {alone[0]})',
                  logger='current', level=logging.WARNING)


def check_reduction(key: str, dataset: Dataset) -> None:
    """Say what the host's loader silently drops of a few images: bits, opacity, frames, channels."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    place = next((index for index, step in enumerate(steps) if isinstance(step, HostLoader)), None)
    if place is None or isinstance(steps[place], LoadImageFromFile) or not hasattr(dataset, 'get_data_info'):
        return
    for row in range(0, len(dataset), max(1, len(dataset) // LOOKED_AT)):
        path = dataset.get_data_info(row).get('img_path')
        try:
            losses = decode_image(read_image_bytes(path, steps[place].backend_args)).losses
        except BadImageError:  # which the loader will say
            continue
        if losses:
            print_log(f'{key}: image {path} has {", ".join(losses.values())}, which the host\'s '
                      f'{type(steps[place]).__name__} does not say; --cfg-options {key}.pipeline.{place}.type='
                      'mm_graft.LoadImageFromFile reads all images by stated rules', logger='current',
                      level=logging.WARNING)
            return


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
        if not more and isinstance(dataset, ImageFolder) and not dataset.ann_file:
            dataset.number_by(ours)
            continue
        problem = '; '.join(filter(None, [
            f'only in {name}: {some_of(more)}' if more else '', f'only in {first}: {some_of(fewer)}' if fewer else '',
            '' if more or fewer else 'the order differs']))
        remedy = ('give both the same folders' if more else
                  f'--cfg-options {name}.type=mm_graft.ImageFolder numbers folders by their names')
        raise ValueError(f'{first} has {len(ours)} classes and {name} {len(theirs)}, so that labels differ: {problem}; '
                         + remedy)


def classes_of(dataset: Dataset | tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes of a data set, or the names themselves; empty if it knows none."""
    if isinstance(dataset, list | tuple):
        return tuple(dataset)
    return tuple(class_names(dataset))
