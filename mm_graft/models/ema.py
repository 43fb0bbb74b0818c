"""The slowly moving copy of an encoder."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseAveragedModel
from torch import Tensor, nn

from mm_graft.equations import half_cosine
from mm_graft.sharding import local_shard


def cosine_momentum(iteration: int, max_iters: int, start: float, end: float = 1.0) -> float:
    r"""Momentum of an EMA that rises along half a cosine.

    .. math:: m(t) = m_1 - (m_1 - m_0) \frac{1 + \cos(\pi t / T)}{2}

    MoCo v3 (``facebookresearch/moco-v3@c349e6e``, m₀ = 0.99) and ConMIM (``TencentARC/ConMIM@4263955``, m₀ = 0.996).
    With ``iteration`` counted from 0 the end is approached and not reached before T; from T on it stays.
    """
    return end - (end - start) * half_cosine(min(iteration, max_iters), max_iters)


def ema_update_(averaged: list[Tensor], source: list[Tensor], momentum: float) -> None:
    """``averaged ← m · averaged + (1 − m) · source`` in one call, without waiting for the device."""
    if averaged:
        torch._foreach_lerp_(averaged, source, 1 - momentum)


def copy_unless_loaded(model: nn.Module, keys: NamedTuple) -> None:
    """Start the slow encoder at what was loaded, if the file had none of its own.

    A hook for ``register_load_state_dict_post_hook`` of a model with ``momentum_encoder`` and
    ``start_momentum_encoder()``: without it ``load_from=`` a plain encoder would leave the copy as it was initialised.
    """
    own = 'momentum_encoder.'
    missing = {name[name.index(own):] for name in keys.missing_keys if own in name}
    if all(f'{own}module.{name}' in missing for name, _ in model.momentum_encoder.module.named_parameters()):
        model.start_momentum_encoder()


class CosineMomentumEMA(BaseAveragedModel):
    """EMA of a module's parameters with a momentum that rises along a cosine.

    The host's ``CosineEMA`` reads its step counter from the device once per parameter and step, and copies the source
    at step 0. Here the counter is mirrored in Python, all parameters move in one foreach call, and the copy is made
    once by :meth:`copy_from`. In a run the place on the cosine is that of the Runner's iteration, so the momentum comes
    to its end also where an update is an optimizer step of several iterations. Buffers (statistics of batch norm) are
    the copy's own and not averaged. State-dict keys are the host's.

    Where parameters are kept in shards each process moves its own (:class:`mm_graft.FullyShardedRunner`, which sets
    ``as_kept``: the context in which parameters are seen as they are kept).

    Args:
        model: the module to follow; copied.
        momentum: m₀, the share that the average keeps at the first step.
        end_momentum: m₁.
        max_iters: T in updates; None: iterations of the running Runner.

    Raises:
        ValueError: a momentum outside [0, 1].
        RuntimeError: at the first update, if ``max_iters`` is None and no Runner has said how long it runs.
    """

    as_kept: Callable[[], AbstractContextManager] = nullcontext

    def __init__(self, model: nn.Module, momentum: float = 0.99, end_momentum: float = 1.0,
                 max_iters: int | None = None) -> None:
        for value in (momentum, end_momentum):
            if not 0 <= value <= 1:
                raise ValueError(f'EMA momentum {value} is the share that the average keeps; choose one in [0, 1]')
        super().__init__(model)
        self.momentum = momentum
        self.end_momentum = end_momentum
        self.max_iters = max_iters
        self._iteration: int | None = 0
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None
        self.moving: tuple[str, ...] | None = None  # names of the parameters that the last update moved

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Move one parameter; the host's interface, not used by :meth:`update_parameters`."""
        ema_update_([averaged_param], [source_param], self.current_momentum(int(steps)))

    def current_momentum(self, iteration: int) -> float:
        """Momentum at an iteration, counted from 0."""
        max_iters = self.max_iters
        if max_iters is None:
            hub = MessageHub.get_current_instance()
            if 'max_iters' not in hub.runtime_info:
                raise RuntimeError('the length of the run is not known; train through a Runner, or give max_iters')
            max_iters = hub.get_info('max_iters')
        return cosine_momentum(iteration, max_iters, self.momentum, self.end_momentum)

    def _now(self) -> int:
        if self.max_iters is None:
            return MessageHub.get_current_instance().runtime_info.get('iter', self._iteration)
        return self._iteration

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Take over parameters and buffers as they are."""
        self.module.load_state_dict(model.state_dict())
        self._pairs = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move every parameter that can still differ from its source, and count the step."""
        if self._iteration is None:
            self._iteration = int(self.steps)
        with self.as_kept():
            if self._pairs is None:
                self._pairs = self._moving_pairs(model)
            ema_update_(*self._pairs, self.current_momentum(self._now()))
        self._iteration += 1
        self.steps += 1

    def forget_pairs(self) -> None:
        """Look again at the next step which parameters move; call it after freezing some."""
        self._pairs = None

    def _moving_pairs(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        source = dict(model.named_parameters())
        names = [
            name for name, average in self.module.named_parameters()
            if source[name].requires_grad or not torch.equal(average, source[name])
        ]
        self.moving = tuple(names)
        averages = dict(self.module.named_parameters())
        return [local_shard(averages[name].data) for name in names], [local_shard(source[name].data) for name in names]

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._iteration = None
        self._pairs = None
