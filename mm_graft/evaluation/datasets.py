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

from mm_graft.channel_files import CHANNEL_EXTENSIONS
from mm_graft.image_files import EXTENSIONS
from mm_graft.image_folders import list_images
from mm_graft.nested import nodes

CROP_SHARE = 224 / 256  # of the short edge that the test transform keeps
ASPECTS = (3 / 4, 4 / 3)
TEST_SPLITS = ('test', 'val')
CHANNELS = 'LoadChannels'
REPEATING = ('RepeatDataset', 'ClassBalancedDataset')  # wrappers with all images of the data set inside
LOADERS = ('LoadImageFromFile', 'TolerantLoadImageFromFile', CHANNELS)
SPLIT_BY_DEFAULT = ('MNIST', 'FashionMNIST', 'CIFAR10', 'CIFAR100')  # read the training split unless told otherwise


def build_datasets(cfg: Config) -> tuple[Dataset, Dataset]:
    """Training and test set of a config, both with the test transform and the same number for a class."""
    train_cfg, test_cfg = dataset_configs(cfg)
    train, test = build_dataset(train_cfg), build_dataset(test_cfg)
    ours, theirs = tuple(class_names(train)), tuple(class_names(test))
    if not ours or not theirs or ours == theirs:
        return train, test
    odd = sorted(set(theirs) - set(ours)) or sorted(set(ours) - set(theirs))
    if set(theirs) - set(ours) or not hasattr(test, 'number_by') or test.ann_file:
        raise ValueError(
            f'the training set has {len(ours)} classes and the test set {len(theirs)}; '
            + (f'they differ in {odd[:5]}' if odd else 'their order differs') + '; use sets of the same classes')
    test.number_by(ours)  # some of the classes, by their names
    return train, test


def check_two_classes(labels: Sequence[int]) -> None:
    """Check that there is something to tell apart, else every score is 100 %."""
    if len(set(labels)) == 1:
        raise ValueError(f'all {len(labels)} training images are of one class; give at least two classes to tell apart')


def build_test_set(cfg: Config) -> Dataset:
    """The test set of a config alone, for what learns nothing from labeled images."""
    return build_dataset(dataset_configs(cfg)[1])


def dataset_configs(cfg: Config) -> tuple[dict, dict]:
    """Configs of training and test set, without wrappers that repeat images, and with our pipeline."""
    train = _innermost(cfg.get('train_dataloader'))
    if train is None:
        raise ValueError('the config has no `train_dataloader.dataset`; the protocols need training images')
    test = _innermost(cfg.get('test_dataloader')) or _innermost(cfg.get('val_dataloader'))
    pipeline = test.get('pipeline') if test else None
    if pipeline and cfg.get('crop_share'):
        raise ValueError(f'the config has a test transform of its own, and crop_share={cfg.crop_share} would change '
                         'nothing of it; leave it out, or change test_dataloader.dataset.pipeline')
    test = test or _sibling(train)
    if kind_of(test) in SPLIT_BY_DEFAULT and test.get('split') == 'test':
        test['test_mode'] = True  # without it the host reads the training images whatever `split` says
    pipeline = pipeline or default_pipeline(cfg, train.get('pipeline') or [])
    for settings in (train, test):
        settings['pipeline'] = [strict_loading(cfg, step) for step in pipeline]
        if kind_of(settings) == 'CustomDataset':  # which counts hidden folders as classes, and knows few formats
            settings['type'] = 'mm_graft.ImageFolder'
    return train, test


def training_set_config(cfg: Config) -> dict:
    """Config of the training set with the test transform, for what needs no labels and no test set."""
    train = _innermost(cfg.get('train_dataloader'))
    if train is None:
        raise ValueError('the config has no `train_dataloader.dataset`')
    pipeline = default_pipeline(cfg, train.get('pipeline') or [])
    return {**train, 'pipeline': [strict_loading(cfg, step) for step in pipeline]}


def kind_of(settings: dict) -> str:
    """Name of the class in a config, without its scope."""
    return str(settings.get('type', '')).split('.')[-1]


def default_pipeline(cfg: Config, train_pipeline: Sequence[dict]) -> list[dict]:
    """Scaled to cover the backbone's image size / (224 / 256), bicubic, and the center of that, as MAE and MoCo v3 do.

    ``crop_share`` of the config stands in the place of 224 / 256; with 1 the crop has the whole short edge, as in CLIP.
    Images that training takes whole (nothing but loading and packing) are taken whole here too.
    """
    names = [kind_of(step) for step in train_pipeline]
    if 'PackInputs' in names and all(name in LOADERS or name == 'PackInputs' for name in names):
        return list(train_pipeline)
    height, width = image_size(cfg)
    share = cfg.get('crop_share') or CROP_SHARE
    return [
        *(step for step in train_pipeline if kind_of(step) in LOADERS),
        dict(type='mm_graft.ResizeToCover', scale=(ceil(height / share), ceil(width / share)),
             backend=backend_of(cfg), interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=(width, height)),
        dict(type='PackInputs')]


def strict_loading(cfg: Config, step: dict) -> dict:
    """A step that loads images by the package's rules, as many channels as the model has, and replaces none.

    In an evaluation each image must keep its label, so that a bad one is an error here, which names it.
    """
    if kind_of(step) not in LOADERS:
        return deepcopy(step)
    if kind_of(step) == CHANNELS or 'channels' in reading_of(cfg):
        return {'type': f'mm_graft.{CHANNELS}', **reading_of(cfg), 'max_bad': 0}
    kept = {key: value for key, value in step.items() if key != 'max_bad'}
    gray = {'color_type': 'grayscale'} if num_channels(cfg) == 1 else {}
    return {**gray, **kept, 'type': 'mm_graft.LoadImageFromFile'}


def augmented_pipeline(cfg: Config, test_pipeline: Sequence[dict]) -> list[dict]:
    """Random resized crop and flip, as the linear evaluations of MAE and MoCo v3 train with."""
    height, width = image_size(cfg)
    return [
        *(step for step in test_pipeline if kind_of(step) in LOADERS),
        dict(type='RandomResizedCrop', scale=(height, width), backend=backend_of(cfg),
             aspect_ratio_range=tuple(ratio * width / height for ratio in ASPECTS)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackInputs')]


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the backbone's images, in pixels."""
    size = cfg.model.backbone.get('img_size', 224)
    return (size, size) if isinstance(size, int) else tuple(size)


def num_channels(cfg: Config) -> int:
    """Channels of the backbone's images."""
    backbone = cfg.model.backbone
    names = ('in_channels', 'in_chans')
    found = [place[name] for place in (backbone, backbone.get('patch_cfg') or {}) for name in names if name in place]
    return found[0] if found else 3


def reading_of(cfg: Config) -> dict:
    """How the images of a config's encoder are read: what its training says of channels, range and background.

    ``channels`` are there where ``LoadChannels`` reads them; without, they are gray or RGB of eight bits.
    """
    steps = [part for _, part in nodes(cfg.get('train_dataloader')) if isinstance(part, dict)]
    own = next((step for step in steps if kind_of(step) in LOADERS), {})
    found = {key: own[key] for key in ('channels', 'value_range', 'background') if key in own}
    channels = num_channels(cfg) if cfg.get('model', {}).get('backbone') else 3
    return found if 'channels' in found or channels in (1, 3) else {**found, 'channels': channels}


def backend_of(cfg: Config) -> str:
    """What resizes the images: Pillow, as the authors do, where they are gray or RGB of eight bits."""
    return 'cv2' if 'channels' in reading_of(cfg) else 'pillow'


def extensions_of(cfg: Config) -> Sequence[str]:
    """Endings of the images that the encoder of a config takes."""
    return CHANNEL_EXTENSIONS if 'channels' in reading_of(cfg) else EXTENSIONS


def folder_of_images(cfg: Config, **settings: object) -> dict:
    """Config of a data set of the images in a folder, read as the encoder of ``cfg`` takes them."""
    return {'type': 'mm_graft.ImageFolder', 'extensions': extensions_of(cfg),
            'pipeline': [strict_loading(cfg, {'type': 'mm_graft.LoadImageFromFile', **reading_of(cfg)})], **settings}


def build_dataset(config: dict) -> Dataset:
    """A data set, with images in it."""
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
    """Labels (N,) of a host data set, without reading an image."""
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
    while dataset is not None and 'dataset' in dataset and kind_of(dataset) in REPEATING:
        dataset = dataset['dataset']
    if dataset is not None and {'dataset', 'datasets'} & set(dataset):
        raise ValueError(f'{kind_of(dataset)} joins data sets or chooses among their images, which an evaluation would '
                         'not see; give it the images in folders of their own: by --labels and --val, or as `train` '
                         'and `test` of the probe of a hook')
    return deepcopy(dataset.to_dict() if hasattr(dataset, 'to_dict') else dict(dataset)) if dataset else None


def _sibling(train: dict) -> dict:
    """The test set that lies beside a training set, by its split or by its folder."""
    test = deepcopy(train)
    test.pop('indices', None)  # a choice among the training images
    kind = kind_of(train)
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
    images = root / folder
    beside = [name for name in TEST_SPLITS if images.name == 'train' and images.with_name(name).is_dir()]
    for name in beside:
        if not list_images(images.with_name(name), labeled=True, extensions=train.get('extensions', EXTENSIONS)).names:
            continue
        if not folder:
            return {**test, 'data_root': str(root.with_name(name))}
        sibling = str(Path(folder).with_name(name))
        return {**test, 'data_prefix': {**prefix, 'img_path': sibling} if isinstance(prefix, dict) else sibling}
    raise ValueError(
        'the config has no `test_dataloader` or `val_dataloader`, and no `test` or `val` folder with a folder for each '
        f'class lies beside its training images (data_root={train.get("data_root")!r}, data_prefix={prefix!r}'
        + (f'; {" and ".join(beside)} hold none' if beside else '') + '); add a test_dataloader')
