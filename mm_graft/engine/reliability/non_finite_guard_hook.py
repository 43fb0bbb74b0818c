"""Skipping optimizer steps whose loss or gradients are not finite; they are logged and counted."""

from typing import NamedTuple

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mm_graft.depth import unwrap
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from mm_graft.host.guarded_steps import guard_steps, has_scaler, skips_on_device, unguard_steps
from mm_graft.host.tensor_lists import norms
from mm_graft.registry import HOOKS
from mm_graft.sharding import local_shard
from mm_graft.spelling import some_of


def not_finite(tensors: list[Tensor]) -> Tensor:
    """(N,), on the device: which of N tensors have an element that is not finite (of shards: in this process)."""
    shards = [local_shard(tensor.detach()) for tensor in tensors]
    shards = [shard if shard.numel() else shard.new_zeros(1) for shard in shards]  # no norm of nothing
    return ~torch.stack([norm.float() for norm in norms(shards, float('inf'))]).isfinite()


class Readback:
    """Numbers (N,) copied from the device without blocking; reading them waits only for the copy.

    Args:
        numbers: of the type int64.
    """

    def __init__(self, numbers: Tensor) -> None:
        on_gpu = numbers.is_cuda
        self.buffer = torch.empty_like(numbers, device='cpu', pin_memory=on_gpu).copy_(numbers, non_blocking=on_gpu)
        self.arrived = torch.cuda.Event() if on_gpu else None
        if on_gpu:
            self.arrived.record()

    def read(self) -> list[int]:
        """The numbers."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.buffer.numpy().tolist()


class Step(NamedTuple):
    """Record of one step; tensors are on the device."""

    iteration: int  #: the one that took it
    terms: list[tuple[str, Tensor]]  #: names and values of the losses of its iterations
    names: tuple[str, ...]  #: of the parameters that had a gradient
    bad: Tensor  #: (len(names),), which gradients were not finite
    counts: Readback  #: steps that were not finite, in a row until this one and in all


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Skip optimizer steps whose loss or gradients are not finite, and stop after several in a row.

    Weights and optimizer state are unchanged by a skipped step; iteration and schedules advance. The log names the loss
    terms and parameters. After ``patience`` skipped steps in a row the state is saved as ``stopped.pth`` (with a
    `SafeCheckpointHook`) and the run fails. All processes take the same decision. Batch norm statistics, which the
    forward pass updates, are not restored.

    Cost: one read of the gradients. PyTorch's fused optimizers (``fused=True``) skip steps on the device, so the CPU
    learns of it one step later and waits for the device only while the last known step was not finite; with others it
    waits for one boolean before each step. A gradient scaler (``AmpOptimWrapper``) skips steps to find its scale; there
    only losses are counted.

    Args:
        patience: number of steps in a row.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 10) -> None:
        if patience < 1:
            raise ValueError(f'patience={patience} counts steps in a row; choose at least 1')
        self.patience = patience

    def before_train(self, runner: Runner) -> None:
        """Insert the check between backward pass and step."""
        self.named = dict(unwrap(runner.model).named_parameters())
        self.losses: list[Tensor] = []
        self.terms: list[tuple[str, Tensor]] = []
        self.judged: tuple[tuple[str, ...], Tensor] | None = None  # gradients of a step that was just taken
        self.counts: Tensor | None = None  # in a row, in all
        self.unread: Step | None = None
        self.in_a_row = 0  # at the last step that was read
        self.scaled = has_scaler(runner.optim_wrapper)
        self.fused = skips_on_device(runner.optim_wrapper)
        guard_steps(runner.optim_wrapper, self.losses.append, self.judge)

    def judge(self) -> Tensor:
        """0 or 1, on the device: whether a loss or a gradient of the coming step is not finite, in any process."""
        found = not_finite(self.losses).any().long()[None]
        self.losses.clear()
        gradients = {} if self.scaled else {name: param.grad for name, param in self.named.items()
                                            if param.grad is not None}
        if gradients:
            found = torch.cat([found, not_finite(list(gradients.values())).long()])
        all_reduce(found, 'max')
        bad = found.amax()
        counts = found.new_zeros(2) if self.counts is None else self.counts
        self.counts = torch.stack([(counts[0] + 1) * bad, counts[1] + bad])
        self.judged = tuple(gradients), found[1:]
        return bad

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        """Log what was not finite, and stop if it persists."""
        self.terms += [(name, value.detach()) for name, value in (outputs or {}).items() if isinstance(value, Tensor)]
        if self.judged is None:
            return  # gradients accumulate
        step = Step(runner.iter, self.terms, *self.judged, Readback(self.counts))
        self.terms, self.judged = [], None
        if self.unread is not None:
            self._read(runner, self.unread)
        self.unread = step
        if self._waits() or self.in_a_row or self.patience == 1 or self.is_last_train_iter(runner):
            self.unread = None
            self._read(runner, step)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer wrapper as it was."""
        unguard_steps(runner.optim_wrapper)

    def _waits(self) -> bool:
        """Whether to read a number now costs nothing."""
        return not self.fused or not self.counts.is_cuda

    def _read(self, runner: Runner, step: Step) -> None:
        self.in_a_row, total = step.counts.read()
        if not self.in_a_row:
            return
        terms = dict.fromkeys(name for name, value in step.terms if not value.isfinite().all())
        names = [name for name, bad in zip(step.names, step.bad.tolist()) if bad]
        message = (f'iteration {step.iteration}: step skipped, {self.in_a_row} in a row, {total} in all; not finite: '
                   f'losses {", ".join(terms) or "none"}; gradients of {len(names)} of {len(self.named)} parameters '
                   f'({some_of(names, 5)})')
        runner.logger.warning(message)
        if self.in_a_row < self.patience:
            return
        hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        saved = f'; the state without them is in {hook.save_now(runner)}' if hook else ''
        raise RuntimeError(f'{self.in_a_row} steps in a row were not finite{saved}. {message}')
