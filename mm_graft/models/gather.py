"""Features of all processes, one process after the other."""

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Concatenate the batches of all processes; the gradient of each batch is summed over the processes."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        ctx.length = len(x)
        return torch.cat(all_gather(x))

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        all_reduce(gradient)
        return gradient.split(ctx.length)[get_rank()]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Features (B, …) of all processes, (world size · B, …), rank by rank; the gradient flows back to all of them.

    Under DDP, which averages over the processes, the result is the gradient of the loss of the whole batch.
    """
    return _Gather.apply(x.contiguous()) if get_world_size() > 1 else x


def gather(x: Tensor) -> Tensor:
    """As :func:`gather_with_gradient`, without a gradient."""
    return torch.cat(all_gather(x.detach().contiguous())) if get_world_size() > 1 else x.detach()
