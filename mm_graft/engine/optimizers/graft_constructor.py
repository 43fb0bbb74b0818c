"""Which layers learn how fast: optimizer groups by stage or by depth."""

import math
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.utils.dl_utils.misc import is_norm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_graft.depth import DepthMap, depth_map, stage_of_depth
from mm_graft.engine.optimizers.custom_keys import (
    MULTIPLIERS,
    check_keys,
    check_settings,
    custom_settings,
    default_of,
)
from mm_graft.engine.optimizers.kinds import check_kinds, freeze_other_kinds
from mm_graft.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mm_graft.sharding import refuse_sharding, sharding_wrapper
from mm_graft.spelling import did_you_mean

OTHER_STEPS = frozenset({'fused', 'foreach', 'capturable', 'differentiable'})
KNOWN = ('stage_lr_mult', 'layer_decay_rate', 'by_depth', 'norm_decay_mult', 'bias_decay_mult', 'bias_lr_mult',
         'flat_decay_mult', 'custom_keys', 'train_only')


def stage_multiplier(depth: int, num_blocks: int, stage_lr_mult: Sequence[float]) -> float:
    """Multiplier of the stage that a depth belongs to; the stages split the blocks evenly."""
    return stage_lr_mult[stage_of_depth(depth, num_blocks, len(stage_lr_mult)) - 1]


def geometric_multiplier(depth: int, num_blocks: int, layer_decay_rate: float) -> float:
    """Multiplier rate^(last − depth) of layer-wise decay: 1 for norm and head, smallest for the stem."""
    return layer_decay_rate**(num_blocks + 1 - depth)


def without_none(node: object) -> object:
    """Nested settings without those that are None."""
    if not isinstance(node, dict):
        return node
    return {key: without_none(value) for key, value in node.items() if value is not None}


def with_fused_step(optimizer: dict) -> dict:
    """An optimizer's config in which Adam and AdamW take their step in one kernel, unless another way is asked for."""
    if optimizer['type'] not in ('Adam', 'AdamW') or not OTHER_STEPS.isdisjoint(optimizer):
        return optimizer
    return {**optimizer, 'fused': True}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GraftOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    r"""One learning rate per stage (or depth), composed with every other multiplier, in few groups.

    The learning rate of a parameter is ``lr · m(depth) · bias_lr_mult · custom lr_mult`` and its weight decay
    ``weight_decay · shape rule · custom decay_mult``. ``paramwise_cfg`` may be left out, which means one stage, or have
    one of

    - ``stage_lr_mult=[0.1, 0.1, 1.0]``: any number of stages that divides the blocks; the first holds the stem too, the
      last everything after the blocks. **0 freezes a stage**: its parameters leave the optimizer and autograd
      (several processes then need ``find_unused_parameters=True`` in the config);
    - ``layer_decay_rate=0.65``: geometric decay for fine-tuning and segmentation;
    - ``by_depth=True``: one group per depth at multiplier 1, for schedules that treat depths differently (FreezeOut);
      it may be combined with one of the other two;

    ``train_only=['attention']`` (:mod:`mm_graft.engine.optimizers.kinds`: also ``'mlp'``, ``'norm'``, ``'bias'``,
    ``'scale'``, ``'stem'``) leaves the other parameters of the encoder as they are, in every stage; what stands outside
    the encoder trains. Beside these stand mmengine's ``norm_decay_mult``, ``bias_decay_mult``, ``bias_lr_mult``,
    ``flat_decay_mult`` (of all 1-D parameters, here 0 unless given) and ``custom_keys``, of which several may fit one
    parameter (:func:`custom_settings`). Depths come from :mod:`mm_graft.depth`. What is None counts as left out.

    Against mmengine's own constructor: multipliers also act on a rate or a weight decay that is the optimizer's default
    (0.01 in AdamW), multipliers of different origin compose instead of replacing each other, a custom key does
    not cut numbers, what fits nothing is an error, and parameters of equal settings share a group
    (ViT-B in three stages: 6 groups, not 158), each with the keys ``stage`` (from 1, None without stages), ``depth``
    (None if groups are by stage), ``num_blocks``, ``num_stages``, ``param_names`` and ``lr_mult``. Adam and AdamW take
    their step in one kernel (``fused=True``, which differs by rounding) unless the optimizer's config says otherwise.
    The authors' code (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``) has the same rule: class token in the
    first stage and decayed, 1-D parameters undecayed, norm and heads in the last stage.
    """

    def _validate_cfg(self) -> None:
        if self.base_wd is None:
            self.base_wd = default_of(self.optimizer_cfg['type'], 'weight_decay')
        if self.base_lr is None:
            self.base_lr = default_of(self.optimizer_cfg['type'], 'lr')
        if isinstance(self.paramwise_cfg, dict):
            self.paramwise_cfg = without_none(self.paramwise_cfg)
            self._check_decay()
        super()._validate_cfg()
        cfg = self.paramwise_cfg
        if unknown := [key for key in cfg if key not in KNOWN]:
            raise ValueError(f'paramwise_cfg has unknown keys {unknown}; known are {list(KNOWN)}'
                             f'{did_you_mean(unknown, KNOWN)}')
        if 'stage_lr_mult' in cfg and 'layer_decay_rate' in cfg:
            raise ValueError('stage_lr_mult and layer_decay_rate exclude each other; give one')
        if 'layer_decay_rate' not in cfg and not cfg.get('by_depth'):
            cfg.setdefault('stage_lr_mult', [1.0])
        stages = cfg.get('stage_lr_mult', [1.0])
        if not isinstance(stages, Sequence) or not all(0 <= value < math.inf for value in stages) or not any(stages):
            raise ValueError(f'stage_lr_mult={stages} must be a list of numbers ≥ 0 (0 freezes a stage), not all 0')
        if not 0 < cfg.get('layer_decay_rate', 1.0) <= 1:
            raise ValueError(f'layer_decay_rate={cfg["layer_decay_rate"]} must be in (0, 1]')
        check_settings(cfg.get('custom_keys', {}), self.optimizer_cfg)
        if 'train_only' in cfg:
            check_kinds(cfg['train_only'])

    def _check_decay(self) -> None:
        cfg = self.paramwise_cfg
        given = [key for key in cfg if key.endswith('decay_mult')]
        given += [key for key, settings in cfg.get('custom_keys', {}).items() if 'decay_mult' in settings]
        if given and self.base_wd is None:
            raise ValueError(f'{given} multiply a weight decay that the optimizer does not have; give it weight_decay')

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
        owners = {f'{prefix}.{name}' if prefix else name: owner for prefix, owner in module.named_modules()
                  for name, _ in owner.named_parameters(recurse=False)}
        if 'train_only' in self.paramwise_cfg:
            freeze_other_kinds(module, depths, owners, self.paramwise_cfg['train_only'])
        if 'stage_lr_mult' in self.paramwise_cfg:
            self._freeze_stages(module, depths, self.paramwise_cfg['stage_lr_mult'])
        trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        check_keys(self.paramwise_cfg.get('custom_keys', {}), trained)
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

    def _freeze_stages(self, model: nn.Module, depths: DepthMap, multipliers: Sequence[float]) -> None:
        training = set()
        for name, parameter in model.named_parameters():
            stage = depths.stage(name, len(multipliers))
            if multipliers[stage - 1] == 0:
                parameter.requires_grad_(False)
            elif parameter.requires_grad:
                training.add(stage)
        if idle := [stage for stage, multiplier in enumerate(multipliers, 1) if multiplier and stage not in training]:
            raise ValueError(f'stage_lr_mult={list(multipliers)}: nothing in stages {idle} trains (frozen before, for '
                             'instance by the backbone), so their multipliers change nothing; write 0 for them')

    def _settings(self, name: str, parameter: nn.Parameter, owner: nn.Module, depths: DepthMap) -> dict:
        cfg, depth = self.paramwise_cfg, depths.depths[name]
        custom = custom_settings(name, cfg.get('custom_keys', {}))
        lr_mult, stage = self._depth_multiplier(depth, depths.num_blocks)
        if name.endswith('.bias') and not is_norm(owner):
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
        return settings | {key: value for key, value in custom.items() if key not in MULTIPLIERS}

    def _depth_multiplier(self, depth: int, num_blocks: int) -> tuple[float, int | None]:
        cfg = self.paramwise_cfg
        if 'stage_lr_mult' in cfg:
            stages = cfg['stage_lr_mult']
            return stage_multiplier(depth, num_blocks, stages), stage_of_depth(depth, num_blocks, len(stages))
        return geometric_multiplier(depth, num_blocks, cfg.get('layer_decay_rate', 1.0)), None

    def _shape_rule(self, name: str, parameter: nn.Parameter, owner: nn.Module) -> float:
        cfg = self.paramwise_cfg
        if is_norm(owner) and 'norm_decay_mult' in cfg:
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
