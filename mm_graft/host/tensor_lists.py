"""Arithmetic on lists of tensors in one call each.

PyTorch has it for its optimizers, and no public name for it; a loop over the tensors of a ViT takes a launch for each.
"""

import torch
from torch import Tensor


def differences(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """Each tensor less its counterpart."""
    return torch._foreach_sub(first, second)


def norms(tensors: list[Tensor], p: float) -> list[Tensor]:
    """The p-norm of each tensor."""
    return torch._foreach_norm(tensors, p)


def lerp_(start: list[Tensor], end: list[Tensor], weight: float) -> None:
    """Move each tensor of ``start`` by the share ``weight`` of the way to its counterpart, in place."""
    if start:
        torch._foreach_lerp_(start, end, weight)
