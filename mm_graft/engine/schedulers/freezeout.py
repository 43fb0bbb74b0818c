"""FreezeOut: each depth has a cosine of its own and stops training when it reaches zero.

Layer i of 0…I (0 is the patch embedding, I the last block) trains for the share t_i of the run,

    t_i = s(t0 + (1 - t0)·i/I),   s ∈ {x, x², x³}            (Brock et al. 2017, arXiv:1706.04983, §2)

from an initial rate lr_i, which is base/t_i (``scaled``: every layer covers the same distance) or base (``unscaled``).
Three conventions say what that means beside a warm-up of W of the T steps (``limit``: the last step that trains):

===================  =============================  ==============  =================================================
convention           warm-up                        limit           cosine
===================  =============================  ==============  =================================================
``brock``            none                           T·t_i           from 0 to the limit
``vitfreeze_code``   to the base rate, then a jump  W + (T-W)·t_i   from W to the limit
``vitfreeze_paper``  to the layer's own rate        T·t_i           from W to the limit (arXiv:2312.02194, §4.1, Fig. 3)
===================  =============================  ==============  =================================================

Steps are 0-based optimizer steps; a layer is frozen in every step after its limit. The formula printed in the FreezeOut
paper lacks the factor ½ of the cosine, as its authors note; it is here.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF, OptimizerType

from mm_graft.engine.schedulers.warmup_cosine import check_warmup, warmup_cosine
from mm_graft.equations import half_cosine
from mm_graft.host.accumulation import iterations_a_step
from mm_graft.registry import PARAM_SCHEDULERS

POWERS = {'linear': 1, 'square': 2, 'cubic': 3}
LR_SCALINGS = ('scaled', 'unscaled', 'global')


def freeze_ratios(t0: float, schedule: str, num_blocks: int) -> list[float]:
    """t_i for i = 0…``num_blocks``: the share of the run for which depth i trains; ``t0`` before the power is taken."""
    if not 0 < t0 <= 1:
        raise ValueError(f't0={t0} must lie in (0, 1]: it is the share of the run before the first layer freezes')
    if schedule not in POWERS:
        raise ValueError(f'schedule={schedule!r} is unknown; choose one of {sorted(POWERS)}')
    return [(t0 + (1 - t0) * i / num_blocks)**POWERS[schedule] for i in range(num_blocks + 1)]


def whole_run_limit(ratio: float, total: int, warmup: int) -> float:
    """Last step that trains when t_i is a share of the whole run (Brock et al.; ViTFreeze's text and Fig. 3)."""
    return total * ratio


def after_warmup_limit(ratio: float, total: int, warmup: int) -> float:
    """Last step that trains when t_i is a share of what follows the warm-up (ViTFreeze's code)."""
    return warmup + (total - warmup) * ratio


def common_warmup(step: int, warmup: int, peak: float) -> float:
    """Every layer climbs to the base rate (ViTFreeze's code); a scaled layer then jumps to its peak."""
    return step / warmup


def own_warmup(step: int, warmup: int, peak: float) -> float:
    """Each layer climbs to its own peak (ViTFreeze's text)."""
    return peak * step / warmup


class Convention(NamedTuple):
    """What a share t_i means: ``limit(ratio, total, warmup)`` and ``climb(step, warmup, peak)``."""

    limit: Callable[[float, int, int], float]
    climb: Callable[[int, int, float], float]


CONVENTIONS = {
    'brock': Convention(whole_run_limit, own_warmup),
    'vitfreeze_code': Convention(after_warmup_limit, common_warmup),
    'vitfreeze_paper': Convention(whole_run_limit, own_warmup),
}


def layer_rate(convention: Convention, step: int, ratio: float, peak: float, total: int, warmup: int) -> float:
    """Rate of a layer as a multiple of the base rate; 0 once it is frozen."""
    limit = convention.limit(ratio, total, warmup)
    if step > limit:
        return 0.
    if step < warmup:
        return convention.climb(step, warmup, peak)
    return peak * half_cosine(step - warmup, limit - warmup)


def freeze_step(convention: Convention, ratio: float, total: int, warmup: int) -> int | None:
    """First step in which a layer no longer trains; None if that is not before the run's end."""
    step = math.floor(convention.limit(ratio, total, warmup)) + 1
    return step if step < total else None


@PARAM_SCHEDULERS.register_module()
class FreezeOutLR(_ParamScheduler):
    """Learning rate of every depth under FreezeOut, warm-up included; `FreezeOutHook` freezes by the same numbers.

    Needs param groups that carry a ``depth`` (``paramwise_cfg=dict(by_depth=True)`` of `GraftOptimWrapperConstructor`).
    A group's initial rate is its base, so stage multipliers compose with it. Depths 0…I (stem, blocks) follow their
    layer's schedule; deeper groups (final norm, necks, heads) the global cosine. What lives as long as a layer without
    being one (LocalMIM's decoders) has the layer's rate, as in ViTFreeze's code; by its text it follows the global
    cosine until the layer freezes: ``paramwise_cfg=dict(by_depth=True, custom_keys={'neck': dict(global_rate=True)})``.

    It is stepped once an iteration but counts optimizer steps: with ``accumulative_counts`` of n, n iterations are one
    step. (The ViTFreeze code counts micro-batches on one side and optimizer steps on the other.)

    Args:
        t0: share of the run, before the power, after which the stem freezes.
        schedule: s, ``'linear'``, ``'square'`` or ``'cubic'``.
        lr_scaling: ``'scaled'`` (base/t_i), ``'unscaled'`` (base), or ``'global'`` (all layers on one cosine, frozen at
            t_i all the same: the ViTFreeze code's ``--non_layerwise_lr``).
        convention: ``'vitfreeze_paper'``, ``'vitfreeze_code'`` or ``'brock'``, see the module.
        warmup: length of the warm-up, in epochs with ``convert_to_iter_based=True``, else in iterations.
        min_ratio: where the global cosine ends, as a share of the base rate; layers always end at 0.
        num_blocks: I; by default what the groups say (``num_blocks``), else one less than the deepest group.
        begin: must stay 0, as the warm-up is part of this schedule.
        end: where the run ends; the Runner fills in its own length.
    """

    closed_form = True  # a value follows from settings and step alone

    def __init__(self,
                 optimizer: OptimizerType,
                 t0: float = 0.8,
                 schedule: str = 'cubic',
                 lr_scaling: str = 'scaled',
                 convention: str = 'vitfreeze_paper',
                 warmup: float = 0,
                 min_ratio: float = 0.,
                 num_blocks: int | None = None,
                 begin: int = 0,
                 end: int = INF,
                 last_step: int = -1,
                 by_epoch: bool = True,
                 verbose: bool = False):
        if by_epoch:
            raise ValueError('FreezeOutLR changes the rate in every iteration; add `convert_to_iter_based=True` '
                             '(lengths in epochs) or `by_epoch=False` (lengths in iterations) to its config')
        if begin != 0 or end >= INF:
            raise ValueError(f'FreezeOutLR spans the whole run, but begin={begin}, end={end}; '
                             'leave out `begin` and give `end`, or let the Runner fill it in')
        self.accumulative_counts = iterations_a_step(optimizer)
        self.total = math.ceil(end / self.accumulative_counts)
        self.warmup = math.ceil(warmup / self.accumulative_counts)
        self.depths = group_depths(optimizer)
        self.num_blocks = num_blocks or count_blocks(optimizer)
        self.ratios = freeze_ratios(t0, schedule, self.num_blocks)
        self.lr_scaling, self.convention, self.min_ratio = lr_scaling, convention, min_ratio
        self._validate()
        self.freeze_steps = [freeze_step(CONVENTIONS[convention], ratio, self.total, self.warmup)
                             for ratio in self.ratios]
        self.on_global = [self._follows_global(depth, group)
                          for depth, group in zip(self.depths, optimizer.param_groups)]
        super().__init__(optimizer, 'lr', begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(cls, *args, epoch_length: int, warmup: float = 0, begin: int = 0, end: int = INF,
                              by_epoch: bool = True, **kwargs) -> 'FreezeOutLR':
        """The schedule with lengths in epochs, for MMEngine's ``convert_to_iter_based=True``."""
        check_warmup(warmup, end)
        end = end if end >= INF else int(end * epoch_length)
        return cls(*args, warmup=round(warmup * epoch_length), begin=begin, end=end, by_epoch=False, **kwargs)

    def step_of(self, iteration: int) -> int:
        """The 0-based optimizer step to which the 0-based ``iteration`` contributes."""
        return iteration // self.accumulative_counts

    def frozen_depth(self, step: int) -> int:
        """Deepest depth that no longer trains in this optimizer step (after the last one as in it); -1 while all do."""
        step = min(step, self.total - 1)
        return bisect_right(self.freeze_steps, step, key=lambda first: self.total if first is None else first) - 1

    def rate(self, depth: int | None, on_global: bool, step: int) -> float:
        """Rate of a group at ``depth`` (None: of no layer) as a multiple of its base rate."""
        if depth is not None and depth <= self.frozen_depth(step):
            return 0.
        if on_global:
            return warmup_cosine(step, self.warmup, self.total, self.min_ratio)
        ratio = self.ratios[depth]
        peak = 1 / ratio if self.lr_scaling == 'scaled' else 1.
        return layer_rate(CONVENTIONS[self.convention], step, ratio, peak, self.total, self.warmup)

    def _get_value(self) -> list[float]:
        step = min(self.step_of(self.last_step), self.total - 1)
        return [base * self.rate(depth, on_global, step)
                for base, depth, on_global in zip(self.base_values, self.depths, self.on_global)]

    def _follows_global(self, depth: int | None, group: dict) -> bool:
        return (depth is None or depth > self.num_blocks or group.get('global_rate', False)
                or self.lr_scaling == 'global')

    def _validate(self) -> None:
        for name, known in (('lr_scaling', LR_SCALINGS), ('convention', sorted(CONVENTIONS))):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f'{name}={value!r} is unknown; choose one of {list(known)}')
        if not 0 <= self.warmup < self.total:
            raise ValueError(f'a warm-up of {self.warmup} steps must be shorter than the run of {self.total}')
        if not 0 <= self.min_ratio <= 1:
            raise ValueError(f'min_ratio={self.min_ratio} is a share of the base rate; choose one in [0, 1]')
        if self.convention == 'brock' and self.warmup:
            raise ValueError("convention 'brock' has no warm-up; set warmup=0 or choose 'vitfreeze_paper'")
        first = CONVENTIONS[self.convention].limit(self.ratios[0], self.total, self.warmup)
        if first <= self.warmup:
            raise ValueError(f'the stem would freeze after step {first:.0f}, within the warm-up of {self.warmup}; '
                             'raise t0 or shorten the warm-up')


def count_blocks(optimizer: OptimizerType) -> int:
    """Blocks of the model whose groups these are; without their word the deepest group is what follows the blocks."""
    groups = optimizer.param_groups
    return max(group.get('num_blocks', 0) for group in groups) or max(group.get('depth') or 0 for group in groups) - 1


def group_depths(optimizer: OptimizerType) -> list[int | None]:
    """Depth of every param group; None for the group in which MMEngine's wrapper keeps the base rate."""
    settings = getattr(optimizer, 'base_param_settings', None)
    depths = []
    for index, group in enumerate(optimizer.param_groups):
        if group is settings:
            depths.append(None)
        elif isinstance(group.get('depth'), int):
            depths.append(group['depth'])
        else:
            raise ValueError(
                f'param group {index} has no single depth; FreezeOutLR needs `optim_wrapper=dict(constructor='
                "'mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=dict(by_depth=True), …)`")
    return depths
