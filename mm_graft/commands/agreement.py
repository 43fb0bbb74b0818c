"""Checking that the processes of a run were started with the same settings."""

import hashlib
import sys

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size

from mm_graft.nested import leaves
from mm_graft.spelling import some_of

# where a node has its data and how many cores it has is its own affair
OF_A_MACHINE = ('data_root', 'work_dir', 'num_workers', 'persistent_workers')


def check_agreement(cfg: Config) -> None:
    """Check that all processes have the same settings; otherwise all exit, and the main one says which differ.

    Different learning rates would silently be averaged; different batch sizes fail in the communication library.
    """
    if get_world_size() == 1:
        return
    own = {key: repr(value) for key, value in leaves(cfg) if key.rpartition('.')[2] not in OF_A_MACHINE}
    digests = all_gather_object(hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest())
    if len(set(digests)) == 1:
        return
    everyone = all_gather_object(own)
    if get_rank():
        sys.exit(1)
    other = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
    raise ValueError(f'process {other} was started with other settings than process 0: '
                     f'{difference(everyone[0], everyone[other])}; start all with one command')


def difference(main: dict[str, str], other: dict[str, str]) -> str:
    """What differs between the settings of two processes, by key; the first few."""
    texts = [f'{key} is {main.get(key, "not set")} here and {other.get(key, "not set")} there'
             for key in {**main, **other} if main.get(key) != other.get(key)]
    return some_of(texts, 3, '; ')
