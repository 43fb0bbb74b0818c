"""Random numbers that a run does not notice, and those that follow from a place alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the random state of torch (CPU and current device), numpy and Python back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that pipelines draw from
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def seed_host_generators(*entropy: int) -> int:
    """Seed Python, NumPy and PyTorch's generator of the CPU with a hash of some numbers; returns that."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that transforms draw from)
    torch.default_generator.manual_seed(seed)
    return seed


def seed_generators(*entropy: int) -> None:
    """As :func:`seed_host_generators`, and the generator of every device."""
    torch.manual_seed(seed_host_generators(*entropy))
