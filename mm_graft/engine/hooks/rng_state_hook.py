"""Randomness that a resumed run shares with an uninterrupted one."""

import random
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mm_graft.registry import HOOKS


def seed_generators(*entropy: int) -> None:
    """Seed Python, NumPy and PyTorch (every device) with a hash of some numbers."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that transforms draw from)
    torch.manual_seed(seed)


def seed_worker(worker: int, entropy: tuple[int, ...], before: Callable[[int], None] | None) -> None:
    """Seed a process of the data loader, after what the config asks it to do."""
    if before is not None:
        before(worker)
    seed_generators(*entropy, worker)


@HOOKS.register_module()
class RNGStateHook(Hook):
    """Make the randomness of every epoch a function of seed, rank and epoch alone.

    The host saves no state of a random generator, so masks, drop path and augmentations of a resumed run are others
    than those of an uninterrupted one; and it seeds the loader's processes alike in every epoch, unless they persist.
    Here all generators of the process, and those of the loader's processes, start each epoch from a seed of its own.
    Weights, optimizer, schedules, EMA and sampler are restored by their own means, so a run that was killed anywhere
    and resumed from the last epoch's checkpoint ends with the same bits on a CPU, and on a GPU as far as its kernels
    are deterministic. The number of processes and workers has to stay the same.

    Processes of the loader are started anew in every epoch, ``persistent_workers`` or not. The seed is the Runner's,
    which differs between ranks if the config says ``diff_rank_seed=True``; the loader's processes always differ.

    An iteration-based run is one epoch: a resumed one goes on with a seed of its own instead of repeating the masks of
    its beginning, and is not bit-identical.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Remember what the config wants the loader's processes to do."""
        self._worker_init = runner.train_dataloader.worker_init_fn

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed everything for the coming epoch."""
        entropy = (runner.seed, runner.epoch, runner.iter)
        seed_generators(*entropy)
        loader = runner.train_dataloader
        loader.worker_init_fn = partial(seed_worker, entropy=(*entropy, runner.rank), before=self._worker_init)
        loader._iterator = None  # ends persistent workers, whose generators could not be reached
