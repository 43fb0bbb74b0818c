"""Parameters in shards (``DTensor``): to shard, to gather, and to refuse what needs full parameters."""

from collections import OrderedDict
from copy import copy

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from mm_graft.depth import unwrap

FULLY_SHARD = 'DTensor (fully_shard)'
UNSHARDED_STRATEGIES = ('SingleDeviceStrategy', 'DDPStrategy')


def local_shard(tensor: Tensor) -> Tensor:
    """The shard of this process, in the same memory; an unsharded tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A full ``value``, which every process has, sharded as ``parameter`` is; without communication."""
    if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def full_state_dict(state: dict) -> dict:
    """A state dict with full tensors on the CPU of the main process, and with empty ones elsewhere.

    All processes have to call it. One tensor at a time is gathered on a device.
    """
    full = copy(state)  # with the versions of its modules
    full.update(apply_to(state, lambda value: isinstance(value, DTensor), full_tensor))
    return full


def full_tensor(tensor: DTensor) -> Tensor:
    """The full tensor on the CPU of the main process, an empty one elsewhere."""
    full = tensor.detach().full_tensor()
    return full.cpu() if is_main_process() else torch.empty(0)


def sum_over_shards(value: Tensor) -> Tensor:
    """The sum over the processes of a scalar that each computes from its shard.

    The gradient is that of the own shard: each element of a sum over all belongs to one process.
    """
    total = value.detach().clone()
    all_reduce(total)
    return value + (total - value.detach())


def shard_loaded_weights(module: nn.Module, state: OrderedDict, prefix: str, *args) -> None:
    """Before a module loads: shard what belongs to a sharded parameter (a hook of PyTorch's modules)."""
    for name, parameter in module.named_parameters(recurse=False):
        if prefix + name in state:
            state[prefix + name] = shard_like(state[prefix + name], parameter)


def shard_loaded_moments(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """Before an optimizer loads: shard its state of sharded parameters (a hook of PyTorch's optimizers)."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    indices = [index for group in state['param_groups'] for index in group['params']]
    owners = dict(zip(indices, parameters))
    sharded = {index: {name: shard_like(value, owners[index]) if isinstance(value, Tensor) else value
                       for name, value in moments.items()} for index, moments in state['state'].items()}
    return {**state, 'state': sharded}


def sharding_wrapper(model: nn.Module) -> str | None:
    """Name of a wrapper around the model that may shard its parameters, or None."""
    shards = is_model_wrapper(model) and not isinstance(model, DistributedDataParallel)
    return type(model).__name__ if shards else None


def sharding_of(runner: Runner) -> str | None:
    """Name of what may shard the parameters of a run: a wrapper, the host's strategy, FSDP2's tensors; or None."""
    strategy = type(runner.strategy).__name__ if hasattr(runner, 'strategy') else None
    if strategy is not None and strategy not in UNSHARDED_STRATEGIES:
        return strategy
    sharded = any(isinstance(parameter, DTensor) for parameter in unwrap(runner.model).parameters())
    return sharding_wrapper(runner.model) or (FULLY_SHARD if sharded else None)


def refuse_sharding(component: str, sharding: str | None) -> None:
    """Raise if the parameters are sharded, which the component cannot handle."""
    if sharding is not None:
        raise ValueError(f'{component} needs full parameters, but {sharding} may shard them; use the plain Runner, '
                         'alone or with MMDistributedDataParallel, or leave it out')
