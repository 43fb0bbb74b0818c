"""Doing something after each optimizer step, wherever the step is taken: a hook on the steps of all optimizers.

PyTorch tells an optimizer about its parameters, and a model nothing about its optimizer.
"""

import weakref
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

_WATCHING: 'weakref.WeakSet[nn.Module]' = weakref.WeakSet()


def trains(optimizer: Optimizer, module: nn.Module) -> bool:
    """Whether the optimizer holds a parameter of the module."""
    own = set(module.parameters())
    return any(parameter in own for group in optimizer.param_groups for parameter in group['params'])


def call_after_steps(module: nn.Module, method: Callable[[nn.Module], None]) -> None:
    """Have ``method(module)`` called after every step of an optimizer that holds a parameter of ``module``.

    PyTorch's hook for the steps of all optimizers is the one place that every path passes. The model's own
    ``train_step`` is not: ``DistributedDataParallel`` and FSDP have theirs, which go past it. A hook of the Runner is
    not there in a loop without one, and would have to stand in every config. So a step counts exactly when it is made:
    once under gradient accumulation, not if it is skipped, and with fused optimizers too.

    Calling it again changes nothing; a copy of the module has to be watched on its own; a module that is gone is
    forgotten.
    """
    if module in _WATCHING:
        return
    _WATCHING.add(module)
    reference = weakref.ref(module)

    def after_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        watched = reference()
        if watched is not None and trains(optimizer, watched):
            method(watched)

    handle = register_optimizer_step_post_hook(after_step)
    weakref.finalize(module, handle.remove)
