"""The two data sets of an evaluation: training images to learn from, test images to be scored on, one test transform.

Protocols on frozen features see the training images through the *test* transform, as the authors' few-shot and kNN
evaluations do. A pre-training config names no test set; it is then looked for beside the training set.
"""

from collections.abc import Sequence
from copy import deepcopy
from math import ceil
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

CROP_SHARE = 224 / 256  # of the short edge that the test transform keeps
TEST_SPLITS = ('test', 'val')
SPLIT_BY_DEFAULT = ('MNIST', 'FashionMNIST', 'CIFAR10', 'CIFAR100')  # read the training split unless told otherwise


def build_datasets(cfg: Config) -> tuple[Dataset, Dataset]:
    """Training and test set of a config, both with the test transform.

    Raises:
        ValueError: the config names no data, a set is empty or unreadable, or the two have different classes.
    """
    train_cfg, test_cfg = dataset_configs(cfg)
    train, test = build_dataset(train_cfg), build_dataset(test_cfg)
    ours, theirs = class_names(train), class_names(test)
    if ours and theirs and tuple(ours) != tuple(theirs):
        odd = sorted(set(ours) ^ set(theirs))
        raise ValueError(
            f'the training set has {len(ours)} classes and the test set {len(theirs)}; they differ in {odd[:5]}; use '
            'sets of the same classes, or give both `classes=[…]`')
    return train, test


def dataset_configs(cfg: Config) -> tuple[dict, dict]:
    """Configs of the training and the test set, wrappers such as ``RepeatDataset`` taken off, the pipelines replaced.

    Raises:
        ValueError: there is no training set, or no test set and none beside the training set.
    """
    train = _innermost(cfg.get('train_dataloader'))
    if train is None:
        raise ValueError('the config has no `train_dataloader.dataset`; the protocols need training images')
    test = _innermost(cfg.get('test_dataloader')) or _innermost(cfg.get('val_dataloader'))
    pipeline = test.get('pipeline') if test else None
    test = test or _sibling(train)
    if test['type'].split('.')[-1] in SPLIT_BY_DEFAULT and test.get('split') == 'test':
        test['test_mode'] = True  # without it the host reads the training images whatever `split` says
    pipeline = pipeline or default_pipeline(cfg, train.get('pipeline') or [])
    train['pipeline'], test['pipeline'] = deepcopy(pipeline), deepcopy(pipeline)
    return train, test


def default_pipeline(cfg: Config, train_pipeline: Sequence[dict]) -> list[dict]:
    """Short edge to size / (224 / 256), bicubic, and the centre of the backbone's image size, as MAE and MoCo v3 do.

    Images that training takes whole (nothing but loading and packing) are taken whole here too.
    """
    names = [str(step.get('type', '')).split('.')[-1] for step in train_pipeline]
    if 'PackInputs' in names and all(name.startswith('LoadImage') or name == 'PackInputs' for name in names):
        return list(train_pipeline)
    size = image_size(cfg)
    loads = loading_steps(train_pipeline)
    return [
        *loads,
        dict(type='ResizeEdge', scale=ceil(size / CROP_SHARE), edge='short', backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs')]


def loading_steps(pipeline: Sequence[dict]) -> list[dict]:
    """What reads the images. A loader that replaces bad ones gives way to the host's: here each must keep its label."""
    steps = []
    for step in pipeline:
        name = str(step.get('type', '')).split('.')[-1]
        if name == 'TolerantLoadImageFromFile':
            kept = {key: value for key, value in step.items() if key not in ('max_bad', 'max_pixels')}
            steps.append({**kept, 'type': 'LoadImageFromFile'})
        elif name.startswith('LoadImage'):
            steps.append(step)
    return steps


def augmented_pipeline(cfg: Config, test_pipeline: Sequence[dict]) -> list[dict]:
    """Random resized crop and flip, as the linear evaluations of MAE and MoCo v3 train with."""
    loads = loading_steps(test_pipeline)
    return [
        *loads,
        dict(type='RandomResizedCrop', scale=image_size(cfg), backend='pillow'),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInputs')]


def image_size(cfg: Config) -> int:
    """Side of the backbone's images, in pixels."""
    size = cfg.model.backbone.get('img_size', 224)
    return size if isinstance(size, int) else size[0]


def build_dataset(config: dict) -> Dataset:
    """A data set, with images in it.

    Raises:
        ValueError: the folder or file is missing, or no image is found.
    """
    try:
        dataset = DATASETS.build(config)
        count = len(dataset)
    except (RuntimeError, AssertionError, FileNotFoundError, NotADirectoryError) as error:
        where = config.get('data_root') or config.get('data_prefix') or config.get('ann_file')
        raise ValueError(f'cannot read {config.get("type")} at {where!r}: {error}; check the path') from error
    if not count:
        raise ValueError(f'{config.get("type")} at {config.get("data_root")!r} holds no images; check the path')
    return dataset


def class_names(dataset: Dataset) -> Sequence[str]:
    """Names of the classes, empty if the data set knows none."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()


def image_labels(dataset: Dataset) -> np.ndarray:
    """Labels (N,) of a host data set, without reading an image.

    Raises:
        ValueError: images have no labels.
    """
    labels = [dataset.get_data_info(index).get('gt_label') for index in range(len(dataset))]
    if any(label is None for label in labels):
        raise ValueError(f'{labels.count(None)} of {len(labels)} images have no label; with one folder a class, '
                         '--cfg-options train_dataloader.dataset.with_label=True reads them')
    return np.asarray([int(np.asarray(label).reshape(-1)[0]) for label in labels])


def image_names(dataset: Dataset) -> list[str]:
    """Name of every image: its path below the data set's folder, or its index where images are not files."""
    prefix = (getattr(dataset, 'data_prefix', None) or {}).get('img_path')
    names = []
    for index in range(len(dataset)):
        path = dataset.get_data_info(index).get('img_path')
        if path is None:
            names.append(str(index))
        elif prefix and Path(path).is_relative_to(prefix):
            names.append(Path(path).relative_to(prefix).as_posix())
        else:
            names.append(Path(path).name)
    return names


def _innermost(dataloader: dict | None) -> dict | None:
    dataset = (dataloader or {}).get('dataset')
    while dataset is not None and 'dataset' in dataset:
        dataset = dataset['dataset']
    return deepcopy(dataset.to_dict() if hasattr(dataset, 'to_dict') else dict(dataset)) if dataset else None


def _sibling(train: dict) -> dict:
    """The test set that lies beside a training set, by its split or by its folder."""
    test = deepcopy(train)
    kind = train['type'].split('.')[-1]
    if train.get('split', 'train' if kind in SPLIT_BY_DEFAULT else '') == 'train':
        test['split'] = 'val' if kind.startswith('ImageNet') else 'test'
        return test
    prefix = train.get('data_prefix')
    folder = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix or ''
    root = Path(train.get('data_root') or '')
    if not (root / folder).is_dir():
        missing = root / folder if root.is_dir() else root
        raise ValueError(f'the folder {missing} of the training images does not exist; give it by --cfg-options '
                         'train_dataloader.dataset.data_root=/path/to/train')
    for name in TEST_SPLITS:
        if not folder and root.name == 'train' and root.with_name(name).is_dir():
            return {**test, 'data_root': str(root.with_name(name))}
        sibling = Path(folder).parent / name if Path(folder).name == 'train' else None
        if sibling is not None and (root / sibling).is_dir():
            test['data_prefix'] = {**prefix, 'img_path': str(sibling)} if isinstance(prefix, dict) else str(sibling)
            return test
    raise ValueError(
        'the config has no `test_dataloader` or `val_dataloader`, and no `test` or `val` folder lies beside its '
        f'training images (data_root={train.get("data_root")!r}, data_prefix={prefix!r}); add a test_dataloader')
