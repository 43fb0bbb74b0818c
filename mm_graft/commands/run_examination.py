"""The doctor's checks of a config: batches, warm-up, classes, unreadable images."""

import os

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import Dataset

from mm_graft.commands.batches import processes
from mm_graft.commands.data_checks import check_data_sets, classes_of, members
from mm_graft.image_files import BadImageError, read_header, read_image_bytes
from mm_graft.nested import value_at
from mm_graft.spelling import some_of

SAMPLE = 60  # images whose headers are read


def build_data_sets(cfg: Config) -> dict[str, Dataset]:
    """The data sets that a training reads, by loader."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return {name: DATASETS.build(cfg[name].dataset) for name in ('train_dataloader', 'val_dataloader')
            if value_at(cfg, f'{name}.dataset')}


def describe_batches(cfg: Config, images: int) -> str:
    """Iterations of an epoch."""
    batch = (value_at(cfg, 'train_dataloader.batch_size') or 1) * processes(cfg)
    if batch > images:
        raise ValueError(f'the batch has {batch} images, but there are {images}; --cfg-options '
                         f'train_dataloader.batch_size={max(1, images // processes(cfg))} or smaller')
    return f'{images} images, {images // batch} batches of {batch} an epoch'


def describe_warmup(cfg: Config) -> str:
    """Length of the run and of its warm-up."""
    loop, schedule = cfg.get('train_cfg') or {}, cfg.get('param_scheduler') or []
    total, unit = loop.get('max_epochs') or loop.get('max_iters'), 'epochs' if 'max_epochs' in loop else 'iterations'
    for part in schedule if isinstance(schedule, list) else [schedule]:
        warmup = part.get('warmup', part.get('end') if part.get('type') == 'LinearLR' else None)
        same_unit = part.get('by_epoch', True) == (unit == 'epochs')
        if warmup and total and same_unit:
            if warmup >= total:
                raise ValueError(f'the warm-up of {warmup:g} {unit} does not end before the run of {total}; shorten '
                                 'it, or train longer')
            return f'{warmup:g} of {total} {unit}'
    return f'none in {total} {unit}'


def describe_classes(sets: dict[str, Dataset]) -> str:
    """Names of the classes, the same in all data sets."""
    check_data_sets(sets)
    names = {name: classes_of(next(iter(members(name, dataset).values()))) for name, dataset in sets.items()}
    return '; '.join(f'{name}: {len(found)} ({some_of(found)})' if found else f'{name}: without classes'
                     for name, found in names.items())


def describe_images(dataset: Dataset) -> str:
    """How many of some evenly spread images can be read."""
    rows = range(0, len(dataset), max(1, len(dataset) // SAMPLE))
    paths = [info['img_path'] for row in rows if 'img_path' in (info := dataset.get_data_info(row))]
    look = next((step.read for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
                 if hasattr(step, 'read')), lambda path: read_header(read_image_bytes(path)))
    bad = []
    for path in paths:
        try:
            look(os.fspath(path))
        except (BadImageError, OSError) as error:
            bad.append(f'{path}: {error}')
    if bad:
        raise ValueError(f'{len(bad)} of {len(paths)} sampled images cannot be read; the first is {bad[0]}')
    return f'{len(paths)} of {len(dataset)} looked at, all can be read'
