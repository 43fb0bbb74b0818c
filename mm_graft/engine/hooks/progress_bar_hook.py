"""A progress bar with loss, learning rate, images a second and the time that is left, where someone looks."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mm_graft.progress import Progress, in_terminal
from mm_graft.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Draw a bar over the iterations of a run if standard error is a terminal; elsewhere do nothing.

    While the bar is drawn, the log's lines of information go to the log file alone; warnings still appear. The loss is
    the last one that was logged, so that the bar never waits for the device.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.levels: list[tuple[logging.Handler, int]] = []

    def before_train(self, runner: Runner) -> None:
        """Draw the bar, at the place where a resumed run is."""
        if not (is_main_process() and in_terminal()):
            return
        self.bar = Progress(total=runner.max_iters, initial=runner.iter, desc=Path(runner.work_dir).name, unit='it',
                        dynamic_ncols=True, smoothing=0.1)
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                self.levels.append((handler, handler.level))
                handler.setLevel(logging.WARNING)
        self.since = time.perf_counter(), runner.iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | Sequence | None = None,
                         outputs: dict | None = None) -> None:
        """Move the bar on."""
        if self.bar is None:
            return
        self.bar.set_postfix(self.numbers(runner), refresh=False)
        self.bar.update(1)

    def numbers(self, runner: Runner) -> dict[str, str]:
        """The numbers beside the bar."""
        scalars = runner.message_hub.log_scalars
        start, first = self.since
        loader = runner.train_dataloader
        batch = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None) or 1
        images = (runner.iter + 1 - first) * batch * get_world_size()
        shown = {'epoch': f'{runner.epoch + 1}/{runner.max_epochs}'}
        if 'train/loss' in scalars:
            shown['loss'] = f'{scalars["train/loss"].current():.4g}'
        rates = next(iter(runner.optim_wrapper.get_lr().values()))
        shown['lr'] = f'{max(rates):.2g}'
        shown['img/s'] = f'{images / max(time.perf_counter() - start, 1e-9):.0f}'
        return shown

    def after_train(self, runner: Runner) -> None:
        """Take the bar away and give the log back its lines."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        for handler, level in self.levels:
            handler.setLevel(level)
        self.levels.clear()
