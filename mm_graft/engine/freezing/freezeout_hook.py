"""The events of FreezeOut: a prefix leaves the backward pass, the optimizer, the gradients that are sent."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mm_graft.depth import depth_map, unwrap
from mm_graft.engine.freezing.freeze_once import freeze_prefix
from mm_graft.engine.freezing.freezeout_savings import SavingsMeter, encoder_step_cost
from mm_graft.engine.freezing.frozen_ema import stop_averages, stop_converged_averages
from mm_graft.engine.freezing.frozen_prefix import GradientWatch, prefix_modules
from mm_graft.engine.schedulers.freezeout import FreezeOutLR
from mm_graft.host.rewrapping import rewrap
from mm_graft.registry import HOOKS
from mm_graft.sharding import sharding_of

STOPPED, RECORDS = 'freezeout_retired_depth', 'freezeout_records'  # names in checkpoints


@HOOKS.register_module()
class FreezeOutHook(Hook):
    """Freezes the prefix whose rate `FreezeOutLR` has brought to zero, so that time and memory are really saved.

    The frozen depth is a function of the iteration alone, so a resumed run continues as if it had never stopped. At an
    event every parameter of that depth and below (class token and position embedding with the stem, a decoder with the
    block that it taps) loses ``requires_grad``, gradient and optimizer state; its modules are in eval mode from then
    on, although the loop calls ``train()`` every epoch; a ``DistributedDataParallel`` wrapper is rebuilt, so that
    frozen gradients are neither waited for nor sent; a moving average stops copying the prefix once it equals it. Param
    groups and state-dict keys stay as they are.

    A model with a method ``on_freeze(frozen_depth: int)`` is told at an event, and on resume.

    Differs from the ViTFreeze code, which leaves the class token alive (autograd then runs through the whole frozen
    prefix), deletes modules and param groups (so its runs cannot be resumed), and keeps reducing frozen gradients.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Checks what freezing needs, and catches up with the iteration at which a resumed run begins."""
        check_supported(runner)
        self.schedule = find_schedule(runner)
        model = unwrap(runner.model)
        self.depths = depth_map(model)
        if self.schedule.num_blocks != self.depths.num_blocks:
            raise ValueError(f'FreezeOutLR schedules {self.schedule.num_blocks} blocks, but the model has '
                             f'{self.depths.num_blocks}; set num_blocks={self.depths.num_blocks} in its config')
        self.frozen_depth = -1
        self.frozen_modules: list[nn.Module] = []
        self.watch: GradientWatch | None = None
        self.reached: set[str] | None = None
        saved = runner.message_hub.runtime_info
        self.meter = SavingsMeter(saved.get(RECORDS))
        runner.message_hub.update_info(RECORDS, self.meter.records)  # from here on checkpoints carry it
        self._advance(runner)
        self.averaged_above = saved.get(STOPPED, -1)
        stop_averages(model, self.depths, self.averaged_above)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Freezes what is due, and puts the frozen modules back into eval mode."""
        event = self._advance(runner)
        for module in self.frozen_modules:
            if module.training:
                module.eval()
        model = unwrap(runner.model)
        if event or self.reached is None:
            self.watch = GradientWatch(model.named_parameters())
        self.meter.start(model, self.frozen_depth)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Measures, checks the gradients of the first step after an event, and looks at the averages once an epoch."""
        self.meter.stop()
        if self.watch is not None:
            self._check_gradients(self.watch.close())
            self.watch = None
        if self.frozen_depth > self.averaged_above and self.every_n_train_iters(runner, len(runner.train_dataloader)):
            self._stop_averages(runner)

    def after_train(self, runner: Runner) -> None:
        """Logs what freezing saved over the run."""
        runner.logger.info(f'FreezeOut: {self.meter.summary()}')

    def _advance(self, runner: Runner) -> bool:
        depth = self.schedule.frozen_depth(self.schedule.step_of(runner.iter))
        if depth <= self.frozen_depth:
            return False
        self.frozen_depth = depth
        model = unwrap(runner.model)
        freeze_prefix(model, runner.optim_wrapper.optimizer, self.depths, depth)
        rewrap(runner)
        self.frozen_modules = prefix_modules(unwrap(runner.model), self.depths, depth)
        self._log_event(runner)
        return True

    def _stop_averages(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        if stop_converged_averages(model, self.depths, self.frozen_depth):
            self.averaged_above = self.frozen_depth
            runner.message_hub.update_info(STOPPED, self.averaged_above)

    def _check_gradients(self, reached: set[str]) -> None:
        last = self.depths.num_blocks
        expected = {name for name in self.reached or () if self.frozen_depth < self.depths.depths[name] <= last}
        if lost := sorted(expected - reached):
            raise RuntimeError(
                f'after depth {self.frozen_depth} was frozen, {len(lost)} parameters that still train got no gradient '
                f'({", ".join(lost[:10])}); look for reentrant checkpointing or a compiled block with a stale graph')
        self.reached = reached

    def _log_event(self, runner: Runner) -> None:
        blocks, total = self.frozen_depth, self.depths.num_blocks
        runner.logger.info(
            f'FreezeOut: from iteration {runner.iter} (epoch {runner.epoch}) on, the stem and {blocks} of {total} '
            f'blocks are frozen; an encoder step now costs {encoder_step_cost(blocks, total):.1%} of its FLOPs')


def find_schedule(runner: Runner) -> FreezeOutLR:
    """The run's FreezeOut schedule."""
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    rates = [scheduler for scheduler in schedulers if scheduler.param_name == 'lr']
    if len(rates) != 1 or not isinstance(rates[0], FreezeOutLR):
        names = [type(scheduler).__name__ for scheduler in rates]
        raise ValueError(f'FreezeOutHook needs one schedule of the learning rate, mm_graft.FreezeOutLR (its warm-up is '
                         f'its own), but the run has {names}; write `param_scheduler=dict(type="mm_graft.FreezeOutLR", '
                         'convert_to_iter_based=True, …)`')
    return rates[0]


def check_supported(runner: Runner) -> None:
    """Refuses, before the first iteration, what would silently drop gradients or cannot be rebuilt."""
    if hasattr(runner, 'strategy') or sharding_of(runner):
        raise ValueError(f'FreezeOut rebuilds the model wrapper at every event, which it cannot do with '
                         f'{type(runner).__name__} and {type(runner.model).__name__} (FSDP, DeepSpeed, …); '
                         'use the plain Runner, alone or with MMDistributedDataParallel')
    reentrant = [name for name, module in unwrap(runner.model).named_modules()
                 if getattr(module, 'with_cp', False) and not type(module).__module__.startswith('mm_graft.')]
    if runner.cfg.get('activation_checkpointing') is not None or reentrant:
        raise ValueError('reentrant activation checkpointing (`activation_checkpointing` in the config, `with_cp` in '
                         'the host\'s backbones) drops the gradients of trained blocks behind a frozen prefix; remove '
                         'it, or use a backbone with non-reentrant checkpointing such as mm_graft.GraftViT')
