"""Tests of process groups in a process of their own: autograd's threads, once started, forbid others to fork."""

import os
from collections.abc import Callable
from functools import wraps

import torch
import torch._dynamo  # once, not in every process
import torch.multiprocessing as mp
from torch import distributed


def call(rank: int, test: Callable, kwargs: dict) -> None:
    torch.set_num_threads(1)  # here, or autograd's threads may find the pool of the forked process half made anew
    os.environ['LOCAL_RANK'] = '0'
    distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
    test(**kwargs)
    distributed.destroy_process_group()


def one_of_one(test: Callable) -> Callable:
    """Run a test as the only process of a group."""
    @wraps(test)
    def run(**kwargs):
        mp.start_processes(call, (test, kwargs), nprocs=1, start_method='fork')
    return run
