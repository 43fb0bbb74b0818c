"""A table of learning rate, decay and depth of each parameter."""

from collections import defaultdict
from copy import deepcopy

from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import device, nn

from mm_graft.depth import depth_map

OF_MIXED_PRECISION = ('type', 'loss_scale', 'dtype', 'use_fp16')


def build_on_meta(cfg: Config) -> tuple[nn.Module, OptimWrapper]:
    """Model and optimizer of a config, without data and, where the model allows it, without memory for weights."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    try:
        with device('meta'):
            model = MODELS.build(deepcopy(cfg.model))  # mmseg writes into it
    except RuntimeError:  # the host's Swin reads values of tensors while it is built
        model = MODELS.build(cfg.model)
    optim_wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in OF_MIXED_PRECISION}
    return model, build_optim_wrapper(model, {'type': 'OptimWrapper', **optim_wrapper})


def parameter_table(model: nn.Module, optim_wrapper: OptimWrapper) -> list[dict]:
    """One row per parameter, in the model's order.

    Each row has ``name``, ``depth`` (see :mod:`mm_graft.depth`), ``stage`` (1-based), ``lr_mult`` (share of the
    optimizer's learning rate), ``lr``, ``weight_decay`` and ``trained``. What does not train has neither stage, rate
    nor decay.
    """
    base_lr = optim_wrapper.optimizer.defaults['lr']
    groups = {parameter: group for group in optim_wrapper.optimizer.param_groups for parameter in group['params']}
    depths = depth_map(model).depths
    return [_row(name, depths[name], groups.get(parameter), base_lr) for name, parameter in model.named_parameters()]


def _row(name: str, depth: int, group: dict | None, base_lr: float) -> dict:
    if group is None:
        return {'name': name, 'depth': depth, 'stage': None, 'lr_mult': None, 'lr': None, 'weight_decay': None,
                'trained': False}
    return {'name': name, 'depth': depth, 'stage': group.get('stage'), 'lr_mult': group['lr'] / base_lr,
            'lr': group['lr'], 'weight_decay': group.get('weight_decay', 0.0), 'trained': True}


def summarise(table: list[dict]) -> list[tuple]:
    """Rows of equal treatment put together: (stage, depths, learning rate, weight decay, tensors)."""
    together = defaultdict(list)
    for row in table:
        together[row['stage'], row['lr'], row['weight_decay']].append(row['depth'])
    rows = [(stage, sorted(set(depths)), lr, decay, len(depths)) for (stage, lr, decay), depths in together.items()]
    return sorted(rows, key=lambda row: (row[2] is None, row[1], row[3] or 0))
