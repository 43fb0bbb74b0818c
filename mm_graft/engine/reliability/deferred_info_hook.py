"""Losses that are read from the device when they are logged, not at every iteration."""

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mm_graft.registry import HOOKS


@HOOKS.register_module()
class DeferredInfoHook(RuntimeInfoHook):
    """The host's ``RuntimeInfoHook``, without a device synchronization at every iteration.

    The host reads each loss term after each iteration and so waits for the device. Here the terms (and the gradient
    norm of ``mm_graft.AutocastOptimWrapper``) stay on the device and are read together when ``LoggerHook`` writes, at
    the end of an epoch, before validation and for a checkpoint. The history is the same; between reads it lags behind.

    It replaces the host's hook: ``default_hooks=dict(runtime_info=dict(type='mm_graft.DeferredInfoHook'))``.

    Args:
        interval: iterations between two reads; that of the run's ``LoggerHook`` if None.
    """

    def __init__(self, interval: int | None = None) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'interval={interval} counts iterations between readings; choose at least 1')
        self.interval = interval
        self.pending: list[tuple[str, Tensor | float]] = []

    def before_train(self, runner: Runner) -> None:
        """Find out when logs are written, and ask the optimizer wrapper for its gradient norms."""
        super().before_train(runner)
        if self.interval is None:
            intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
            self.interval = min(intervals, default=1)
        if hasattr(runner.optim_wrapper, 'keep_norm'):
            runner.optim_wrapper.keep_norm = self.keep

    def keep(self, name: str, value: Tensor | float) -> None:
        """Remember a number of this iteration."""
        self.pending.append((name, value.detach() if isinstance(value, Tensor) else value))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        """Remember the terms of the loss, and read all when they are due."""
        for name, value in (outputs or {}).items():
            self.keep(f'train/{name}', value)
        if self.every_n_inner_iters(batch_idx, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.read(runner)

    def read(self, runner: Runner) -> None:
        """Move what is remembered into the history, with one copy from the device."""
        if not self.pending:
            return
        names, values = zip(*self.pending)
        device = next((value.device for value in values if isinstance(value, Tensor)), None)
        scalars = [torch.as_tensor(value, dtype=torch.float64, device=device).reshape(()) for value in values]
        for name, number in zip(names, torch.stack(scalars).tolist()):
            runner.message_hub.update_scalar(name, number)
        self.pending = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the complete history into the checkpoint."""
        self.read(runner)
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def before_val_epoch(self, runner: Runner) -> None:
        """Make the history complete for validation."""
        self.read(runner)

    def after_train(self, runner: Runner) -> None:
        """Read what is left."""
        self.read(runner)
        if hasattr(runner.optim_wrapper, 'keep_norm'):
            runner.optim_wrapper.keep_norm = None
        super().after_train(runner)
