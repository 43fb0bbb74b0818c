"""A training step never waits for the device: it reads no value, no shape depends on one, and no copy to it blocks."""

import traceback
from contextlib import nullcontext

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clock import PhaseClock
from tests.every_method import METHODS, config_of, training_step
from tests.test_configs import CONFIGS, read

DEVICE = 'meta'  # has shapes and no values, so what would read one fails
aten = torch.ops.aten
REPORTING = (torch.linalg.inv, torch.linalg.solve, torch.linalg.cholesky)
# lines of the host on which these wait
KNOWN = {'graft/vit-b_mae2simclr': 'masked_select', 'graft/vit-b_mae2byol': 'if self.steps == 0:',
         'mixing/beit_vit-base_stage-lr': 'target = target[mask]'}


def test_every_algorithm_of_the_configs_is_among_the_methods():
    configs = [read(path) for path in CONFIGS]
    trained = {cfg.model.type for cfg in configs if cfg.default_scope == 'mmpretrain' and not cfg.get('val_evaluator')}
    assert trained == {config_of(name).model.type for name in METHODS}


def on_device(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == DEVICE


class BlockingCopies(TorchDispatchMode):
    """Keeps the copies from the CPU for which it waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[-1] if func is aten._to_copy.default else args[1]
            if on_device(made) and not on_device(source) and not kwargs.get('non_blocking', args[2:] == (True, )):
                self.found.append(f'{func} of {tuple(source.shape)}')
        return made


class HiddenCopies(TorchFunctionMode):
    """Keeps what copies numbers of Python, or an index, to the device on its own, or looks there whether it failed."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        of_numbers = func in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and not on_device(
            args[func is Tensor.new_tensor])
        index = args[1] if func in (Tensor.__getitem__, Tensor.__setitem__) and on_device(args[0]) else ()
        parts = index if isinstance(index, tuple) else (index, )
        if ((of_numbers or func in REPORTING) and on_device(made)) or any(
                isinstance(part, list) or (isinstance(part, Tensor) and not on_device(part)) for part in parts):
            self.found.append(getattr(func, '__name__', str(func)))
        return made


def step_on_device(name, monkeypatch):
    """A method's step on the device, after one on the CPU, which finds out which averages move."""
    step = training_step(name)
    step.step(PhaseClock())
    step.model.to(DEVICE)
    settings = step.cfg.optim_wrapper
    settings.optimizer.fused = False  # its kernels are those of a real device
    step.optim_wrapper = build_optim_wrapper(step.model, settings)
    step.optim_wrapper.keep_norm = lambda name, norm: None
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())  # knows real devices only
    return step


@pytest.mark.parametrize('name', [name for name in METHODS if name not in KNOWN])
def test_no_operation_of_a_step_waits_for_the_device(name, monkeypatch):
    step = step_on_device(name, monkeypatch)
    with BlockingCopies() as copies, HiddenCopies() as hidden:
        step.step(PhaseClock())
    assert copies.found + hidden.found == []
    assert all(on_device(parameter) for parameter in step.model.parameters())


@pytest.mark.parametrize('name', KNOWN)
def test_the_host_waits_where_it_is_known_to(name, monkeypatch):
    step = step_on_device(name, monkeypatch)
    with pytest.raises((RuntimeError, NotImplementedError)) as error:
        step.step(PhaseClock())
    lines = [frame for frame in traceback.extract_tb(error.tb) if '/torch/' not in frame.filename]
    assert KNOWN[name] in lines[-1].line
    assert 'mm_graft' not in lines[-1].filename


@pytest.mark.parametrize('wait', [
    lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool(x.any()), lambda x: x.nonzero(),
    lambda x: x.tolist(), lambda x: x.cpu()])
def test_reading_a_value_fails(wait):
    with pytest.raises((RuntimeError, NotImplementedError)):
        wait(torch.ones(2, device=DEVICE))


def test_copies_that_block_are_found():
    with BlockingCopies() as copies, HiddenCopies() as hidden:
        there = torch.ones(3).to(DEVICE, non_blocking=True)
        there.copy_(torch.ones(3), non_blocking=True)
        there[torch.tensor([0]).to(DEVICE, non_blocking=True)]
        assert copies.found + hidden.found == []
        torch.ones(3).to(DEVICE)
        there.copy_(torch.ones(3))
        assert len(copies.found) == 2
        torch.tensor([1.0], device=DEVICE)
        there[[2, 1, 0]]
        there.new_tensor(1.0)
        torch.linalg.inv(torch.eye(2, device=DEVICE))
        there[torch.tensor([1])] = 0
        assert hidden.found == ['tensor', '__getitem__', 'new_tensor', 'linalg_inv', '__setitem__']
