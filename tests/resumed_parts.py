"""A run of MAE, small enough to be made many times, interrupted and gone on with under other settings."""

import copy
import itertools
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from tests.tiny import mae, settings

COUNTER = itertools.count()
LENGTH = 4  # iterations of an epoch
HOOKS = dict(logger=None, rng=dict(type='mm_graft.RNGStateHook'),
             checkpoint=dict(type='mm_graft.SafeCheckpointHook', interval=1))
SCHEDULE = dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True)


@DATASETS.register_module()
class Pictures(torch.utils.data.Dataset):
    """Pictures of noise, a function of the index."""

    def __init__(self, count: int = 16, classes: tuple = ('a', 'b')) -> None:
        self.count, self.metainfo = count, {'classes': classes}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        return {'inputs': picture, 'data_samples': DataSample().set_gt_label(index % 2)}


def merged(base: dict, changes: dict) -> dict:
    """A config with other values under dotted keys; a value of None under a new key is left out."""
    base = copy.deepcopy(base)
    for key, value in changes.items():
        *path, last = key.split('.')
        node = base
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return base


class StoppedError(Exception):
    """Ends a run as a kill would, after it saved its state."""


def run(folder: Path, changes: dict | None = None, resume: bool | str = False, stop: int | None = None,
        hooks: tuple = ()) -> tuple[Runner, list[str]]:
    """Train four epochs, or go on from the last file or a given one; ``stop`` saves and leaves after an iteration.

    Returns the runner and what it warned of.
    """
    base = settings(mae(), folder, epochs=4, param_scheduler=SCHEDULE, default_hooks=HOOKS)
    base['train_dataloader']['dataset'] = dict(type='mmengine.Pictures')
    base.update(experiment_name=f'resumed{next(COUNTER)}', resume=bool(resume), log_level='WARNING',
                load_from=resume if isinstance(resume, str) else None)
    runner, said = Runner.from_cfg(Config(merged(base, changes or {}))), []
    runner.logger.warning = lambda text, *args: said.append(text)
    for hook in hooks:
        runner.register_hook(hook)
    saver = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    if stop is not None:
        saver.after_train_iter = lambda runner, **kwargs: runner.iter + 1 == stop and leave(saver, runner)
    with suppress(StoppedError):
        runner.train()
    return runner, said


def leave(saver: SafeCheckpointHook, runner: Runner) -> None:
    saver.save_now(runner)
    raise StoppedError


def state(folder: Path, name: str = 'epoch_4.pth') -> dict:
    return torch.load(folder / name, weights_only=False)


def groups(folder: Path, name: str = 'epoch_4.pth') -> list[dict]:
    """Settings of the optimizer in a checkpoint."""
    return [{key: value for key, value in group.items() if key != 'params'}
            for group in state(folder, name)['optimizer']['param_groups']]
