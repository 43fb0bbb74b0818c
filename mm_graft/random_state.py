"""Random numbers that a run does not notice."""

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
