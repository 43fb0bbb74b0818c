"""A training step never asks the device for a number: it reads no value, and no shape in it depends on one."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clock import PhaseClock
from tests.every_method import METHODS, training_step

aten = torch.ops.aten
WAITING = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'equal.default', 'is_nonzero')
# the host draws SimCLR's negatives by a mask, and there are as many hidden patches as a drawn mask has
KNOWN = {'simclr': {'aten.masked_select.default'},
         'self-distillation': {'aten.index.Tensor', 'aten.index_put.default', 'aten.index_put_.default'}}


class Watch(TorchDispatchMode):
    """Keeps the operations on whose result the host would have to wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += [str(func) for name in WAITING if name in str(func)]
        indices = args[1] if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default) else ()
        if any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('name', METHODS)
def test_a_step_waits_for_nothing_but_what_is_known(name):
    step = training_step(name)
    step.optim_wrapper.keep_norm = lambda name, norm: None
    step.step(PhaseClock())  # the first step finds out which averages move
    with Watch() as watch:
        step.step(PhaseClock())
    assert set(watch.found) <= KNOWN.get(name, set())
    assert bool(watch.found) == (name in KNOWN)


def test_the_watch_finds_a_wait():
    with Watch() as watch:
        torch.ones(1).item()
        torch.ones(2)[torch.tensor([True, False])]
    assert len(watch.found) == 2
