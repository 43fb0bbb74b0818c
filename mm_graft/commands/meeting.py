"""Rendezvous of the processes of a run: before they join their group, and at the end, when they leave it.

Before, each reports that it is ready, or why it failed: processes that joined would wait, half an hour by PyTorch's
default, for one that failed before it could join.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from mm_graft.commands.launchers import VARIABLES, slurm_to_torch
from mm_graft.commands.messages import INPUT_ERRORS, one_line
from mm_graft.process_group import leave_group

if TYPE_CHECKING:
    from torch.distributed import PrefixStore

MINUTES = 5.0  # for which the processes wait for each other
SECONDS_TO_TELL = 30.0  # for which one that fails tries to tell the others
TOGETHER = ('pytorch', 'slurm')  # launchers
STARTED_BY = {'pytorch': 'torchrun (tools/dist_train.sh)', 'slurm': 'srun (tools/slurm_train.sh)', 'mpi': 'mpirun'}
CAME, FAILED, READ, DONE = 'came', 'failed', 'read', 'done'
_held = []  # stores: the main process's is the server, until it ends


def meet(launcher: str) -> None:
    """Wait until all processes of the launcher have reached this call."""
    if launcher in VARIABLES and not {VARIABLES[launcher].rank, 'RANK'} & {*os.environ}:
        raise ValueError(f'--launcher {launcher}, but this process was not started by {STARTED_BY[launcher]}, which '
                         f'sets {VARIABLES[launcher].rank}; start it so, or leave --launcher out')
    if not starts_several(launcher):
        return
    rank, world, deadline = own_place(), int(os.environ['WORLD_SIZE']), time.monotonic() + 60 * MINUTES
    try:
        store = open_store(60 * MINUTES)
        came = store.add(CAME, 1)
        while came < world:
            if store.check([FAILED]):
                reason = store.get(FAILED).decode()
                let_others_read(store, world)
                raise ValueError(reason)
            if time.monotonic() > deadline:
                raise ValueError(f'only {came} of {world} processes connected within {MINUTES:g} minutes; see the logs '
                                 'of the others')
            time.sleep(0.1)
            came = store.add(CAME, 0)
    except RuntimeError as error:  # of the store
        raise ValueError(f'process {rank} of {world} did not reach process 0 at {os.environ["MASTER_ADDR"]}:'
                         f'{os.environ["MASTER_PORT"]} within {MINUTES:g} minutes, or lost the connection; see its log'
                         ) from error


def leave(launcher: str) -> None:
    """Leave the process group with all others, however long one of them still works alone.

    A collective call would wait for it no longer than the group's timeout.
    """
    if starts_several(launcher):
        store, world = open_store(60 * MINUTES), int(os.environ['WORLD_SIZE'])
        done = store.add(DONE, 1)
        while done < world:
            time.sleep(0.1)
            done = store.add(DONE, 0)
    leave_group()


@contextmanager
def telling_others(launcher: str) -> Iterator[None]:
    """If this process fails, end those that wait in :func:`meet` with its reason."""
    try:
        yield
    except INPUT_ERRORS as error:
        with suppress(*INPUT_ERRORS):
            if starts_several(launcher):
                tell_failure(one_line(error))
        raise


def tell_failure(reason: str) -> None:
    """Report that this process failed, and why."""
    world = int(os.environ['WORLD_SIZE'])
    store = open_store(SECONDS_TO_TELL)
    store.set(FAILED, f'process {own_place()} of {world} has failed: {reason}')
    let_others_read(store, world)


def let_others_read(store: PrefixStore, world: int) -> None:
    """Acknowledge a failure; the process that serves the store stays until all have, or a timeout."""
    deadline, read = time.monotonic() + SECONDS_TO_TELL, store.add(READ, 1)
    while is_server() and read < world and time.monotonic() < deadline:
        time.sleep(0.1)
        read = store.add(READ, 0)


def starts_several(launcher: str) -> bool:
    """Whether this process is one of several."""
    if launcher == 'slurm':
        slurm_to_torch()
    known = all(name in os.environ for name in ('RANK', 'MASTER_ADDR', 'MASTER_PORT'))
    return launcher in TOGETHER and known and int(os.environ.get('WORLD_SIZE', 1)) > 1


def own_place() -> int:
    """Rank of this process."""
    return int(os.environ['RANK'])


def is_server() -> bool:
    """Whether the store lives in this process, and not in torchrun's."""
    return own_place() == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'


def open_store(seconds: float) -> PrefixStore:
    """The store shared by all processes of this launch, at the address of their future group."""
    from torch.distributed import PrefixStore, TCPStore
    _held.append(TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=is_server(),
                          timeout=timedelta(seconds=seconds), wait_for_workers=False, multi_tenant=True))
    return PrefixStore(f'mm_graft.meeting.{os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', _held[-1])
