"""Processes for tests that need their own: started by a server that has imported everything and computed nothing.

A test process has threads (of pytest's workers, of autograd), and what is forked from it can wait for ever on a lock
that one of them held. Whatever does not come to its end is ended, and fails.
"""

import importlib
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
import torch.multiprocessing as mp
from mmengine.registry import init_default_scope
from torch import distributed

from mm_graft.process_group import leave_group

multiprocessing.set_forkserver_preload([
    'torch._dynamo', 'torch.distributed.tensor', 'torch.testing', 'mmpretrain.models', 'mm_graft.models', 'pytest'])
SECONDS = 600  # so long may a process of a test take on a busy machine


def fresh() -> None:
    """Seeds, threads and scope that every test begins with."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the host's transforms draw from it)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')


def start(rank: int, work: Callable, arguments: tuple) -> None:
    fresh()
    work(rank, *arguments)


def in_processes(work: Callable, *arguments: object, processes: int = 1) -> None:
    """Do ``work(rank, …)`` in so many processes; raises what one of them raises, and if one is not done in time."""
    context = mp.start_processes(start, (work, arguments), nprocs=processes, join=False, start_method='forkserver')
    deadline = time.monotonic() + SECONDS
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            raise TimeoutError(f'{work.__qualname__} is not done after {SECONDS} s')


def launch(work: Callable, *arguments: object) -> mp.Process:
    """A process that does ``work(0, …)``."""
    process = mp.get_context('forkserver').Process(target=start, args=(0, work, arguments))
    process.start()
    return process


def status_of(process: mp.Process, seconds: float = SECONDS) -> int:
    """How a process ended; raises if it is not done in time."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f'process {process.pid} is not done after {seconds} s')
    return process.exitcode


def alone(rank: int, module: str, name: str, kwargs: dict) -> None:
    os.environ['LOCAL_RANK'] = '0'
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    getattr(importlib.import_module(module), name).__wrapped__(**kwargs)
    leave_group()


def one_of_one(test: Callable) -> Callable:
    """Run a test as the only process of a group."""
    @wraps(test)
    def run(**kwargs):
        in_processes(alone, test.__module__, test.__name__, kwargs)
    return run
