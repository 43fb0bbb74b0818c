"""Checks before the first step for what would fail in a run or be silently wrong."""

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.datasets import CustomDataset
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mm_graft.commands.batches import accumulation
from mm_graft.commands.data_checks import check_data_sets, members
from mm_graft.depth import unwrap
from mm_graft.evaluation.datasets import image_labels
from mm_graft.models.grids import check_grids
from mm_graft.nested import value_at

CLASS_KEYS = ('model.head.num_classes', 'data_preprocessor.num_classes', 'model.data_preprocessor.num_classes')


class BatchSizeHook(Hook):
    """Warn at the start of the log if the learning rate is meant for batches of another size."""

    def before_train(self, runner: Runner) -> None:
        """Compare, as ``--auto-scale-lr`` does, the images of an optimizer step."""
        scaling = runner.cfg.get('auto_scale_lr') or {}
        base, batch = scaling.get('base_batch_size'), batch_size(runner.train_dataloader)
        rate = value_at(runner.cfg, 'optim_wrapper.optimizer.lr')  # None of several optimizers, or one handed over
        if not base or not batch or scaling.get('enable') or rate is None:
            return
        real = batch * get_world_size() * accumulation(runner.cfg)
        if real != base:
            runner.logger.warning(
                f'the learning rate {rate:.4g} is meant for batches of {base} images, but here they have {real} '
                f'({batch} × {get_world_size()} processes × {accumulation(runner.cfg)} iterations a step); '
                f'--auto-scale-lr would make it {rate * real / base:.4g}')


def check_data(runner: Runner) -> None:
    """Check that training images fill a batch, share the validation classes, and fit classifier and grid."""
    if runner.train_loop is None:
        return
    check_length(runner)
    loops = {'train_dataloader': runner.train_loop, 'val_dataloader': runner.val_loop}
    check_data_sets({name: loop.dataloader.dataset for name, loop in loops.items() if loop is not None})
    if isinstance(runner.model, nn.Module):  # runners that shard build it later
        check_grids(unwrap(runner.model))
    first = next(iter(members('train_dataloader', runner.train_dataloader.dataset).values()))
    check_classes(runner.cfg, getattr(first, 'metainfo', None) or {})
    for name, loop in loops.items():
        for key, dataset in members(name, loop.dataloader.dataset).items() if loop is not None else ():
            check_labels(runner.cfg, key, dataset)


def check_length(runner: Runner) -> None:
    """Check that an epoch has a step; without one the host's schedules fail with other words."""
    loader, batch = runner.train_dataloader, batch_size(runner.train_dataloader)
    if not isinstance(runner.train_loop, EpochBasedTrainLoop) or not batch or len(loader):
        return
    share = len(loader.dataset) // get_world_size()
    processes = f' for each of {get_world_size()} processes' if get_world_size() > 1 else ''
    fitting = 2 ** (share.bit_length() - 1) if share else 0
    raise ValueError(
        f'{len(loader.dataset)} images are fewer than one batch of {batch}{processes}; '
        + (f'--cfg-options train_dataloader.batch_size={fitting}' if fitting else 'give more images'))


def check_classes(cfg: Config, metainfo: dict) -> None:
    """Check that every class of the training images has a place in the classifier and in the mixing of labels."""
    classes, numbers = len(metainfo.get('classes') or ()), places_of_classes(cfg)
    if any(number < classes for number in numbers.values()):
        stated = ', '.join(f'{key}={number}' for key, number in numbers.items())
        raise ValueError(
            f'the training images have {classes} classes, but {stated}; '
            f'--cfg-options {" ".join(f"{key}={classes}" for key in numbers)}')


def check_labels(cfg: Config, key: str, dataset: Dataset) -> None:
    """Check that images for a classifier have labels, and that it has a place for each class number in a list."""
    numbers = places_of_classes(cfg)
    if not isinstance(dataset, CustomDataset) or 'model.head.num_classes' not in numbers:
        return
    if not dataset.with_label:
        raise ValueError(f'{key} gives no labels (with_label=False), which model.head learns from; --cfg-options '
                         f'{key}.with_label=True')
    if not dataset.ann_file:
        return
    labels = image_labels(dataset)
    low, high = labels.min(), labels.max()
    if low < 0 or high >= min(numbers.values()):
        stated = ', '.join(f'{place}={number}' for place, number in numbers.items())
        raise ValueError(f'{key}: {dataset.ann_file} numbers classes from {low} to {high}, but {stated}; number them '
                         f'from 0 on, and give the classifier at least {high + 1}')


def places_of_classes(cfg: Config) -> dict[str, int]:
    """How many classes the parts of a model have a place for, by key in the config."""
    return {key: number for key in CLASS_KEYS if isinstance(number := value_at(cfg, key), int)}


def batch_size(loader: DataLoader) -> int | None:
    """Images of a step of one process, None if the loader does not say."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)
