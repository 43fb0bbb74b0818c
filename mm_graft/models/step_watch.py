"""Doing something after each optimizer step, wherever the step is taken."""

import weakref
from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

_WATCHING: 'weakref.WeakSet[nn.Module]' = weakref.WeakSet()


def moves(optimizer: Optimizer, module: nn.Module) -> bool:
    """Whether the optimizer holds a parameter of the module."""
    own = {id(parameter) for parameter in module.parameters()}
    return any(id(parameter) in own for group in optimizer.param_groups for parameter in group['params'])


def call_after_steps(module: nn.Module, method: Callable[[nn.Module], None]) -> None:
    """Have ``method(module)`` called after every step of an optimizer that holds a parameter of ``module``.

    The step itself says that it is done: to the exact step under gradient accumulation, with fused optimizers (which
    leave no trace in the parameters' version counters), under DDP (whose train loop goes past a model's own
    ``train_step``), and in a loop without Runner. Calling it again changes nothing; a copy of the module has to be
    watched on its own; a module that is gone is forgotten.
    """
    if module in _WATCHING:
        return
    _WATCHING.add(module)
    reference = weakref.ref(module)

    def after_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        watched = reference()
        if watched is not None and moves(optimizer, watched):
            method(watched)

    handle = register_optimizer_step_post_hook(after_step)
    weakref.finalize(module, handle.remove)
