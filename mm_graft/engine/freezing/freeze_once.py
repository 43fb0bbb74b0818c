"""Freezing a prefix, by an event of FreezeOut or outside a run."""

from torch import nn
from torch.optim import Optimizer

from mm_graft.depth import DepthMap, depth_map, find_backbone
from mm_graft.engine.freezing.frozen_ema import refresh_averages
from mm_graft.engine.freezing.frozen_prefix import freeze_parameters, prefix_modules, prefix_parameters
from mm_graft.host.shared_bias import cut_shared_bias


def freeze_prefix(model: nn.Module, optimizer: Optimizer, depths: DepthMap, depth: int) -> None:
    """Stop training all of ``depth`` and below, and tell the model by ``on_freeze(depth)`` if it has that."""
    freeze_parameters(prefix_parameters(model, depths, depth), optimizer)
    cut_shared_bias(find_backbone(model)[1])
    refresh_averages(model)
    if hasattr(model, 'on_freeze'):
        model.on_freeze(depth)


def freeze_blocks(model: nn.Module, optimizer: Optimizer, blocks: int) -> None:
    """Freeze the stem and the first ``blocks`` blocks as `FreezeOutHook` does; call it after ``model.train()``."""
    depths = depth_map(model)
    if not 1 <= blocks <= depths.num_blocks:
        raise ValueError(f'{blocks} blocks to freeze of a model with {depths.num_blocks}; choose '
                         f'1…{depths.num_blocks}')
    freeze_prefix(model, optimizer, depths, blocks)
    for module in prefix_modules(model, depths, blocks):
        module.eval()
