"""The exponential moving average of a network: a momentum encoder."""

import torch
from mmengine.model import BaseAveragedModel
from torch import Tensor, nn

from mm_graft.equations import half_cosine
from mm_graft.host.tensor_lists import lerp_
from mm_graft.models.run_position import run_iteration, run_length
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
    lerp_(averaged, source, 1 - momentum)


class CosineMomentumEMA(BaseAveragedModel):
    """EMA of a module's parameters with a momentum that rises along a cosine.

    The host's ``CosineEMA`` reads its step counter from the device once per parameter and step, and copies the source
    at step 0. Here the counter is mirrored in Python, all parameters move in one foreach call, and the copy is made
    once by :meth:`copy_from`. Buffers (statistics of batch norm) are the copy's own and not averaged. State-dict keys
    are the host's.

    In a run the position on the cosine is the Runner's iteration, which the host publishes in its ``MessageHub``, so
    that the momentum reaches its end also where gradients are accumulated over several iterations. Elsewhere it is the
    number of updates. Where parameters are sharded by FSDP2 each process moves its own shards.

    Args:
        model: the module to follow; copied.
        momentum: m₀, the share that the average keeps at the first step.
        end_momentum: m₁.
        max_iters: T in updates; None: iterations of the running Runner.
        first: position on the cosine of the update after the first step. 0 where the authors' loop moves the average at
            the end of a step (ConMIM). 1 where it moves at the start of the next step, with the momentum of that one
            (MoCo v3): the same averages, since a fresh copy does not move.
    """

    supports_shards = True

    def __init__(self, model: nn.Module, momentum: float = 0.99, end_momentum: float = 1.0,
                 max_iters: int | None = None, first: int = 0) -> None:
        for value in (momentum, end_momentum):
            if not 0 <= value <= 1:
                raise ValueError(f'EMA momentum {value} is the share that the average keeps; choose one in [0, 1]')
        super().__init__(model)
        self.momentum = momentum
        self.end_momentum = end_momentum
        self.max_iters = max_iters
        self.first = first
        self.sources: tuple[str, ...] = ()  # names of what it follows in a model with a momentum encoder
        self.loaded = False  # whether the last state dict that was loaded had weights for it
        self.moving: tuple[str, ...] | None = None  # names of the parameters that the last update moved
        self._iteration: int | None = 0
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Move one parameter; the host's interface, not used by :meth:`update_parameters`."""
        ema_update_([averaged_param], [source_param], self.current_momentum(int(steps)))

    def current_momentum(self, iteration: int) -> float:
        """Momentum at an iteration, counted from 0."""
        if self.momentum == self.end_momentum:
            return self.momentum
        return cosine_momentum(iteration, run_length(self.max_iters), self.momentum, self.end_momentum)

    def copy_from(self, model: nn.Module) -> None:
        """Take over parameters and buffers as they are."""
        self.module.load_state_dict(model.state_dict())
        self.forget_pairs()

    def update_parameters(self, model: nn.Module) -> None:
        """Move every parameter that can still differ from its source, and count the step."""
        if self._iteration is None:
            self._iteration = int(self.steps)
        if self._pairs is None:
            self._pairs = self._moving_pairs(model)
        iteration = run_iteration(self._iteration) if self.max_iters is None else self._iteration
        ema_update_(*self._pairs, self.current_momentum(self.first + iteration))
        self._iteration += 1
        self.steps += 1

    def forget_pairs(self) -> None:
        """Look again at the next update which parameters move; call it after freezing some."""
        self._pairs = self.moving = None

    def _moving_pairs(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        source, averages = dict(model.named_parameters()), dict(self.module.named_parameters())
        self.moving = tuple(name for name, average in averages.items()
                            if source[name].requires_grad or not torch.equal(average, source[name]))
        return [local_shard(averages[name].data) for name in self.moving], [
            local_shard(source[name].data) for name in self.moving]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.loaded = any(name.startswith(f'{prefix}module.') for name in state_dict)
        self._iteration = None
        self.forget_pairs()
