"""Saving the state of a run when its scheduler, or Ctrl-C, ends it."""

import atexit
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner
from torch import distributed
from torch.utils.data import DataLoader

from mm_graft.engine.reliability.gradient_carry import at_step
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from mm_graft.host.loader_processes import answered, end_at_once, end_loader_processes, outlive_signals
from mm_graft.process_group import leave_group
from mm_graft.registry import HOOKS

ONE_SIGNAL = 5.0  # seconds


def shared_batches(loader: DataLoader) -> int:
    """Batches of a loader that every process is sure to have; known for the host's sampler, else 0."""
    if not isinstance(loader.sampler, DefaultSampler):
        return 0
    return len(loader.dataset) // (get_world_size() * (loader.batch_size or 1))


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save the state and exit with status 0 on a signal: Slurm's warning, ``scancel``, torchrun's shutdown, Ctrl-C.

    The first signal is acknowledged at once. At the end of that iteration (with gradient accumulation, of that
    optimizer step) the state is saved as ``stopped.pth``, from which ``--resume`` continues; a run in its last
    iteration finishes normally. A second signal ends the process at once; torchrun and srun forward signals that a
    process may already have received, so under them a repetition within seconds counts as the same signal. Needs
    :class:`SafeCheckpointHook`; a run without checkpoints is not affected.

    All processes stop at the same iteration: every ``interval`` iterations they reduce one byte over gloo, so that no
    device waits. During validation, signals are handled between batches; in distributed runs, only after batches that
    every rank has. The saved state is that of the last training iteration; a resumed run first repeats the validation
    (`DueValidationHook`).

    Args:
        signals: names of the signals. After SIGINT (Ctrl-C) the exit status is 130, so that scripts stop.
        interval: iterations between two such reductions; a single process reacts at once.
    """

    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1', 'SIGINT'), interval: int = 10) -> None:
        if unknown := [name for name in signals if name not in signal.Signals.__members__]:
            raise ValueError(f'signals {unknown} do not exist here; choose from {list(signal.Signals.__members__)}')
        self.numbers = [signal.Signals[name] for name in signals]
        self.interval = interval
        self.received: signal.Signals | None = None
        self.agreed, self.earlier = False, {}

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        self.agreed, self.earlier, self.received = False, {}, None
        self.passed_on = any(name in os.environ for name in ('TORCHELASTIC_RUN_ID', 'SLURM_PROCID'))
        self.group = distributed.new_group(backend='gloo') if get_world_size() > 1 else None
        self.checkpoints = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if self.checkpoints is None:
            return  # a run that keeps nothing ends as usual
        if not isinstance(self.checkpoints, SafeCheckpointHook):
            raise ValueError("PreemptionHook saves through SafeCheckpointHook; set default_hooks.checkpoint.type="
                             "'mm_graft.SafeCheckpointHook'")
        self.earlier = {number: signal.signal(number, self._note) for number in self.numbers}
        answered.update(self.numbers)
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                outlive_signals(loop.dataloader)
        self.started = set()
        atexit.register(end_loader_processes)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Register before PyTorch's exit handler, which waits five seconds for each loader process."""
        self._come_first('training')

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """The same for the validation loader."""
        self._come_first('validation')

    def _come_first(self, loader: str) -> None:
        if self.earlier and loader not in self.started:
            self.started.add(loader)
            atexit.unregister(end_loader_processes)
            atexit.register(end_loader_processes)

    def _note(self, number: int, frame: object) -> None:
        if self.received is not None:
            if not self.passed_on or time.monotonic() - self.since > ONE_SIGNAL:
                end_at_once(number)
            return
        self.received, self.since = signal.Signals(number), time.monotonic()
        said = (f'{self.received.name}: stopping after this iteration, which will be saved; a second signal ends the '
                'run at once\n')
        with suppress(OSError):  # Ctrl-C ends the `tee` behind a run too
            os.write(2, said.encode())  # a handler must not use streams, in which it may stand
        if not self.passed_on:
            for each in self.numbers:
                signal.signal(each, signal.SIG_DFL)  # also in the middle of a long call

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        """Save and exit, if a stop was requested."""
        self.agreed = self.agreed or self._asked(self.every_n_train_iters(runner, self.interval))
        if self.agreed and at_step(runner) and runner.iter + 1 < runner.max_iters:
            self._leave(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Exit before a validation begins."""
        if self.earlier and self._asked(True):
            self._leave(runner, runner.iter)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: object = None) -> None:
        """Exit within a validation, with the trained weights (not the average)."""
        if not self.earlier:
            return
        due = (batch_idx + 1) % self.interval == 0 and batch_idx < shared_batches(runner.val_dataloader)
        if self._asked(due):
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)
            self._leave(runner, runner.iter)

    def _leave(self, runner: Runner, iterations: int) -> None:
        path = self.checkpoints.save_after(runner, iterations)
        runner.logger.warning(f'{self.received.name if self.received else "another process"} requested a stop: saved '
                              f'iteration {iterations} to {path}; continue with --resume')
        leave_group()
        raise SystemExit(128 + signal.SIGINT if self.received == signal.SIGINT else 0)

    def _asked(self, due: bool) -> bool:
        if self.group is None:
            return self.received is not None
        if not due:
            return False
        asked = torch.tensor([self.received is not None], dtype=torch.uint8)
        distributed.all_reduce(asked, distributed.ReduceOp.MAX, group=self.group)
        return bool(asked)

    def after_train(self, runner: Runner) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}
        answered.clear()
