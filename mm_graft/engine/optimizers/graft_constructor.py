"""Which layers learn how fast: optimizer groups by stage or by depth."""

import re
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_graft.depth import DepthMap, depth_map, stage_of_depth
from mm_graft.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mm_graft.sharding import refuse_sharding, sharding_wrapper

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
OTHER_STEPS = frozenset({'fused', 'foreach', 'capturable', 'differentiable'})
OWN_KEYS = ('norm_decay_mult', 'bias_decay_mult', 'bias_lr_mult', 'flat_decay_mult', 'custom_keys')
HOST_KEYS = ('dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate')  # without a meaning for the models here
CHOICES = ('stage_lr_mult', 'layer_decay_rate', 'by_depth')


def stage_multiplier(depth: int, num_blocks: int, stage_lr_mult: Sequence[float]) -> float:
    """Multiplier of the stage that a depth belongs to; the stages split the blocks evenly."""
    return stage_lr_mult[stage_of_depth(depth, num_blocks, len(stage_lr_mult))]


def geometric_multiplier(depth: int, num_blocks: int, layer_decay_rate: float) -> float:
    """Multiplier rate^(last − depth) of layer-wise decay: 1 for norm and head, smallest for the stem."""
    return layer_decay_rate**(num_blocks + 1 - depth)


def matching_key(name: str, keys: Sequence[str]) -> str | None:
    """The longest of ``keys`` that stands in ``name``; a number is never cut (``layers.1`` is not in ``layers.10``).

    It does stand in ``layers.5.ffn.layers.1.weight``, mmpretrain's name of an MLP's second layer: for a block write
    ``backbone.layers.1``.
    """
    fitting = [key for key in keys if re.search(re.escape(key) + (r'(?!\d)' if key[-1:].isdigit() else ''), name)]
    return max(sorted(fitting), key=len, default=None)


def with_fused_step(optimizer: dict) -> dict:
    """An optimizer's config in which Adam and AdamW take their step in one kernel, unless another way is asked for."""
    if optimizer['type'] not in ('Adam', 'AdamW') or not OTHER_STEPS.isdisjoint(optimizer):
        return optimizer
    return {**optimizer, 'fused': True}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GraftOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    r"""One learning rate per stage (or depth), composed with every other multiplier, in few groups.

    The learning rate of a parameter is ``lr · m(depth) · bias_lr_mult · custom lr_mult`` and its weight decay
    ``weight_decay · shape rule · custom decay_mult``. ``paramwise_cfg`` takes exactly one of

    - ``stage_lr_mult=[0.1, 0.1, 1.0]``: any number of stages that divides the blocks; the first holds the stem too, the
      last everything after the blocks. **0 freezes a stage**: its parameters leave the optimizer and autograd
      (several processes then need ``find_unused_parameters=True`` in the config);
    - ``layer_decay_rate=0.65``: geometric decay for fine-tuning and segmentation;
    - ``by_depth=True``: one group per depth at multiplier 1, for schedules that treat depths differently (FreezeOut);
      it may be combined with one of the other two;

    and beside it mmengine's ``norm_decay_mult``, ``bias_decay_mult``, ``bias_lr_mult``, ``flat_decay_mult`` (of all 1-D
    parameters, here 0 unless given) and ``custom_keys``. Depths come from :mod:`mm_graft.depth`.

    Against mmengine's own constructor: multipliers of different origin compose instead of replacing each other, a
    custom key does not cut numbers, and parameters of equal settings share a group (ViT-B in three stages: 6 groups,
    not 158), each with the keys ``stage`` (1-based, None without stages), ``depth`` (None if groups are by stage),
    ``num_blocks``, ``num_stages``, ``param_names`` and ``lr_mult``. Adam and AdamW take their step in one kernel
    (``fused=True``, which differs by rounding) unless the optimizer's config says otherwise. The authors' code
    (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``) has the same rule: class token in the first stage and
    decayed, 1-D parameters undecayed, norm and heads in the last stage.

    Raises:
        ValueError: an unknown key, no rule or contradicting ones, a negative multiplier, all stages frozen, stages that
            do not divide the blocks, a parameter whose depth is unknown, or a wrapper that flattens parameters (FSDP).
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        cfg = self.paramwise_cfg
        if unknown := sorted(set(cfg) - {*CHOICES, *OWN_KEYS, *HOST_KEYS}):
            raise ValueError(f'paramwise_cfg has unknown keys {unknown}; known are {[*CHOICES, *OWN_KEYS, *HOST_KEYS]}')
        if not any(cfg.get(choice) for choice in CHOICES):
            raise ValueError(f'paramwise_cfg has none of {CHOICES}; give one, e.g. stage_lr_mult=[0.1, 0.1, 1.0]')
        if 'stage_lr_mult' in cfg and 'layer_decay_rate' in cfg:
            raise ValueError('stage_lr_mult and layer_decay_rate exclude each other; give one')
        stages = cfg.get('stage_lr_mult', [1.0])
        if not stages or min(stages) < 0 or max(stages) == 0:
            raise ValueError(f'stage_lr_mult={list(stages)} must have entries ≥ 0 (0 freezes a stage), not all 0')
        if not 0 < cfg.get('layer_decay_rate', 1.0) <= 1:
            raise ValueError(f'layer_decay_rate={cfg["layer_decay_rate"]} must be in (0, 1]')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer; frozen stages leave autograd here, which a distributed wrapper has to be told before."""
        refuse_sharding('GraftOptimWrapperConstructor, which tells matrices from vectors,', sharding_wrapper(model))
        if isinstance(model, DistributedDataParallel) and 0 in self.paramwise_cfg.get('stage_lr_mult', []) and not (
                model.find_unused_parameters or model.static_graph):
            raise ValueError('a stage multiplier of 0 freezes what DistributedDataParallel, which wrapped the model '
                             'before, would wait for; add find_unused_parameters=True to the config')
        self.optimizer_cfg = with_fused_step(self.optimizer_cfg)
        return super().__call__(model)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Fill ``params`` with the groups of ``module``, the whole model."""
        depths = depth_map(module)
        self._freeze_stages(module, depths)
        owners = {f'{prefix}.{name}' if prefix else name: owner for prefix, owner in module.named_modules()
                  for name, _ in owner.named_parameters(recurse=False)}
        groups: dict[str, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            settings = self._settings(name, parameter, owners[name], depths)
            group = groups.setdefault(repr(settings), {'params': [], **settings, 'param_names': []})
            group['params'].append(parameter)
            group['param_names'].append(name)
        params.extend(groups.values())
        self._report(params)

    def _freeze_stages(self, model: nn.Module, depths: DepthMap) -> None:
        multipliers = self.paramwise_cfg.get('stage_lr_mult', [])
        if 0 not in multipliers:
            return
        for name, parameter in model.named_parameters():
            if multipliers[depths.stage(name, len(multipliers))] == 0:
                parameter.requires_grad_(False)

    def _settings(self, name: str, parameter: nn.Parameter, owner: nn.Module, depths: DepthMap) -> dict:
        cfg, depth = self.paramwise_cfg, depths.depths[name]
        custom = cfg.get('custom_keys', {})
        custom = custom.get(matching_key(name, list(custom)), {})
        lr_mult, stage = self._depth_multiplier(depth, depths.num_blocks)
        if name.endswith('.bias') and not isinstance(owner, NORMS):
            lr_mult *= cfg.get('bias_lr_mult', 1.0)
        lr_mult *= custom.get('lr_mult', 1.0)
        settings = {
            'stage': stage,
            'depth': depth if cfg.get('by_depth') or 'layer_decay_rate' in cfg else None,
            'num_blocks': depths.num_blocks,
            'num_stages': len(cfg['stage_lr_mult']) if 'stage_lr_mult' in cfg else None,
            'lr_mult': lr_mult,
            'lr': self.base_lr * lr_mult,
        }
        if self.base_wd is not None:
            settings['weight_decay'] = self.base_wd * self._shape_rule(name, parameter, owner) * custom.get(
                'decay_mult', 1.0)
        return settings | {key: value for key, value in custom.items() if key not in ('lr_mult', 'decay_mult')}

    def _depth_multiplier(self, depth: int, num_blocks: int) -> tuple[float, int | None]:
        cfg = self.paramwise_cfg
        if 'stage_lr_mult' in cfg:
            stages = cfg['stage_lr_mult']
            return stage_multiplier(depth, num_blocks, stages), 1 + stage_of_depth(depth, num_blocks, len(stages))
        return geometric_multiplier(depth, num_blocks, cfg.get('layer_decay_rate', 1.0)), None

    def _shape_rule(self, name: str, parameter: nn.Parameter, owner: nn.Module) -> float:
        cfg = self.paramwise_cfg
        if isinstance(owner, NORMS) and 'norm_decay_mult' in cfg:
            return cfg['norm_decay_mult']
        if name.endswith('.bias') and 'bias_decay_mult' in cfg:
            return cfg['bias_decay_mult']
        return cfg.get('flat_decay_mult', 0.0) if parameter.ndim == 1 else 1.0

    def _report(self, groups: list[dict]) -> None:
        for group in groups:
            where = f'stage {group["stage"]}' if group['depth'] is None else f'depth {group["depth"]}'
            print_log(
                f'{where}: lr {group["lr"]:.3g}, weight decay {group.get("weight_decay", 0):.3g}, '
                f'{len(group["params"])} tensors', logger='current')
