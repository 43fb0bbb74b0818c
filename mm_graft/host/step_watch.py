"""Doing something after each optimizer step, wherever the step is taken: a hook on the steps of all optimizers.

PyTorch tells an optimizer about its parameters, and a model nothing about its optimizer.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

_WATCHED: 'WeakKeyDictionary[nn.Module, Callable[[nn.Module], None]]' = WeakKeyDictionary()
_HOOK: list = []  # the handle of the one hook; PyTorch iterates over its hooks, so none may come or go within a step


def trains(optimizer: Optimizer, module: nn.Module) -> bool:
    """Whether the optimizer holds a parameter of the module."""
    own = set(module.parameters())
    return any(parameter in own for group in optimizer.param_groups for parameter in group['params'])


def after_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
    """Call the method of every module that the optimizer trains."""
    for module, method in list(_WATCHED.items()):
        if trains(optimizer, module):
            method(module)


def call_after_steps(module: nn.Module, method: Callable[[nn.Module], None]) -> None:
    """Have ``method(module)`` called after every step of an optimizer that holds a parameter of ``module``.

    PyTorch's hook on the steps of all optimizers is the one place that every training loop passes through. The model's
    ``train_step`` is not: ``DistributedDataParallel`` and FSDP have their own, which bypass it. A hook of the Runner
    would be missing in loops without a Runner, and would have to be in every config. So the method is called exactly
    when a step is taken: once with gradient accumulation, not if the step is skipped, and with fused optimizers too.

    Calling it again has no effect; a copy of the module has to be registered separately; modules are referenced weakly.
    """
    if not _HOOK:
        _HOOK.append(register_optimizer_step_post_hook(after_step))
    _WATCHED.setdefault(module, method)
