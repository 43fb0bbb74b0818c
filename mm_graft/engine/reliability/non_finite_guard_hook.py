"""Steps that numbers out of range would spoil are left out, named and counted."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mm_graft.depth import unwrap
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from mm_graft.registry import HOOKS
from mm_graft.sharding import local_shard


def not_finite(tensors: list[Tensor]) -> Tensor:
    """(N,), on the device: which of N tensors have an element that is not finite (of shards: in this process)."""
    pieces = [local_shard(tensor.detach()) for tensor in tensors]
    pieces = [piece if piece.numel() else piece.new_zeros(1) for piece in pieces]  # no norm of nothing
    norms = torch._foreach_norm(pieces, float('inf'))
    return ~torch.stack([norm.float() for norm in norms]).isfinite()


class Tally:
    """How often each of some named things was not finite; counted where the numbers are, read when somebody looks."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.counts: Tensor | None = None
        self.past: dict[str, int] = {}

    def add(self, names: tuple[str, ...], bad: Tensor) -> None:
        """Count one look at them."""
        if names != self.names:  # something was frozen
            self.past, self.names, self.counts = self.take(), names, torch.zeros_like(bad, dtype=torch.int64)
        self.counts += bad

    def take(self) -> dict[str, int]:
        """What was not finite since the last time, and how often."""
        found, self.past = self.past, {}
        if self.counts is not None:
            for name, count in zip(self.names, self.counts.tolist()):
                if count:
                    found[name] = found.get(name, 0) + count
            self.counts.zero_()
        return found


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Leave out the optimizer's step where the loss or a gradient is not finite, and stop after several in a row.

    Weights and the optimizer's state stay as they were before the step; iteration and schedules go on. The log names
    the terms of the loss and the parameters. After ``patience`` such steps in a row the state is saved as
    ``stopped.pth`` (if the run has a `SafeCheckpointHook`) and the run ends with an error. All processes decide alike.
    Statistics of batch norm are updated in the forward pass and not taken back.

    Cost: the gradients are read once. PyTorch's fused optimizers leave a step out on the device by themselves, so with
    them (``fused=True``) the host does not wait; it looks every ``interval`` iterations, and a run may go on so much
    longer than ``patience``. With others the host waits for one boolean before each step. A gradient scaler
    (``AmpOptimWrapper``) finds its scale by leaving steps out itself; there only losses are counted.

    Args:
        patience: number of steps in a row.
        interval: number of iterations between two looks at what a fused optimizer left out.

    Raises:
        ValueError: ``patience`` or ``interval`` below 1.
        RuntimeError: after ``patience`` steps in a row.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, patience: int = 10, interval: int = 10) -> None:
        if patience < 1 or interval < 1:
            raise ValueError(f'patience={patience} and interval={interval} count steps; choose 1 or more')
        self.patience = patience
        self.interval = interval
        self.losses: list[Tensor] = []
        self.parameters, self.terms = Tally(), Tally()
        self.steps: Tensor | None = None  # in a row, most in a row since the last look, in all
        self.look = False

    def before_train(self, runner: Runner) -> None:
        """Stand between backward pass and step."""
        self.named = dict(unwrap(runner.model).named_parameters())
        wrapper = runner.optim_wrapper
        self._backward, self._step = wrapper.backward, wrapper.step
        wrapper.backward = self.backward
        wrapper.step = lambda **kwargs: self.step(wrapper, **kwargs)
        self.scaled = isinstance(wrapper, AmpOptimWrapper)
        self.fused = all(group.get('fused') for group in wrapper.optimizer.param_groups)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """The optimizer wrapper's, remembering the loss."""
        self.losses.append(loss.detach())
        self._backward(loss, **kwargs)

    def step(self, wrapper: OptimWrapper, **kwargs) -> None:
        """The optimizer wrapper's, unless something is not finite."""
        bad = self._bad_step()
        if self.fused and not self.scaled:
            wrapper.optimizer.found_inf = bad.float()
        elif not self.scaled and bool(bad):
            self.look = True
            return
        self._step(**kwargs)

    def _bad_step(self) -> Tensor:
        """0 or 1, on the device."""
        found = not_finite(self.losses).any().long()[None]
        self.losses = []
        gradients = {} if self.scaled else {name: param.grad for name, param in self.named.items()
                                            if param.grad is not None}
        if gradients:
            found = torch.cat([found, not_finite(list(gradients.values())).long()])
        all_reduce(found, 'max')
        if gradients:
            self.parameters.add(tuple(gradients), found[1:])
        bad = found.amax()
        row, most, total = self.steps if self.steps is not None else torch.zeros(3, dtype=torch.int64,
                                                                                 device=bad.device)
        row = (row + 1) * bad
        self.steps = torch.stack([row, torch.maximum(most, row), total + bad])
        return bad

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        """Name what was not finite, if it is time to look, and stop if it goes on."""
        terms = {name: value for name, value in (outputs or {}).items() if isinstance(value, Tensor)}
        if terms:
            self.terms.add(tuple(terms), not_finite(list(terms.values())))
        if self.look or self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self.look = False
            self._report(runner)

    def _report(self, runner: Runner) -> None:
        _, most, total = self.steps.tolist() if self.steps is not None else (0, 0, 0)
        terms, parameters = self.terms.take(), self.parameters.take()
        if not most:
            return
        self.steps[1] = 0
        names = ', '.join(list(parameters)[:5]) + (', …' if len(parameters) > 5 else '')
        message = (f'iteration {runner.iter}: steps left out, {most} in a row, {total} in all; not finite: losses '
                   f'{", ".join(f"{name} ({count} times)" for name, count in terms.items()) or "none"}; gradients of '
                   f'{len(parameters)} of {len(self.named)} parameters ({names})')
        runner.logger.warning(message)
        if most < self.patience:
            return
        hook = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        saved = f'; the state without them is in {hook.save_now(runner)}' if hook else ''
        raise RuntimeError(f'{most} steps in a row were not finite{saved}. {message}')
