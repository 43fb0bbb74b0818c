"""Tensors that several processes keep in shards (``DTensor``): the piece of this process, and the whole."""

from collections import OrderedDict

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """The piece that this process keeps, in the same memory; a tensor that is whole as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(state: dict) -> dict:
    """A state dict with whole tensors on the CPU of the main process, and with empty ones elsewhere.

    All processes have to call it. One tensor at a time is whole on a device.
    """
    metadata = getattr(state, '_metadata', None)
    state = apply_to(state, lambda value: isinstance(value, DTensor), gathered_tensor)
    if metadata is not None:
        state._metadata = metadata
    return state


def gathered_tensor(tensor: DTensor) -> Tensor:
    """The whole on the CPU of the main process, an empty tensor elsewhere."""
    whole = tensor.detach().full_tensor()
    return whole.cpu() if is_main_process() else torch.empty(0)


def sum_of_pieces(value: Tensor) -> Tensor:
    """The sum of a scalar over the processes, each of which computes it from its piece.

    The gradient is that of the own piece: every element of a sum over all is in one process.
    """
    total = value.detach().clone()
    all_reduce(total)
    return value + (total - value.detach())


def cut_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole ``value``, which every process has, cut as ``parameter`` is; without communication."""
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def cut_loaded_weights(module: nn.Module, state: OrderedDict, prefix: str, *args) -> None:
    """Before a module loads: cut what belongs to a sharded parameter (a hook of PyTorch's modules)."""
    for name, parameter in module.named_parameters(recurse=False):
        if prefix + name in state:
            state[prefix + name] = cut_like(state[prefix + name], parameter)


def cut_loaded_moments(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """Before an optimizer loads: cut what it keeps of sharded parameters (a hook of PyTorch's optimizers)."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    places = [place for group in state['param_groups'] for place in group['params']]
    owners = dict(zip(places, parameters))
    cut = {place: {name: cut_like(value, owners[place]) if isinstance(value, Tensor) else value
                   for name, value in kept.items()} for place, kept in state['state'].items()}
    return {**state, 'state': cut}
