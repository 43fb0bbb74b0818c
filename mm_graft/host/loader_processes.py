"""Processes of data loaders, beside a process that answers signals by saving and leaving.

A scheduler signals all processes of a job. PyTorch ends a loader's process at SIGTERM, and raises an error in its
parent wherever that stands, so the parent would not come to save.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial

from torch.utils.data import DataLoader

answered: set[int] = set()  # numbers of the signals that this process answers


def ignore_signals(worker: int, numbers: tuple[int, ...], before: Callable[[int], None] | None) -> None:
    """Make a loader process ignore signals that a scheduler sends to the whole group."""
    if before is not None:
        before(worker)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def outlive_signals(loader: DataLoader) -> DataLoader:
    """Make the future processes of a loader ignore the signals that this process handles; returns the loader."""
    if answered:
        loader.worker_init_fn = partial(ignore_signals, numbers=tuple(sorted(answered)), before=loader.worker_init_fn)
    return loader


def end_loader_processes() -> None:
    """Kill the processes of the loaders when this one ends: the signal that PyTorch asks them by is one they ignore.

    Without this a run whose loader still exists at its end (``persistent_workers``, or any error) would wait for them
    forever.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler takes their end for a crash
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def end_at_once(number: int) -> None:
    """End this process as a signal does that nobody handles, and those of its loaders."""
    end_loader_processes()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
