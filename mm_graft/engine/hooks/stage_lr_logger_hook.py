"""The learning rate of every stage, in the log."""

from mmengine.hooks import Hook, LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mm_graft.registry import HOOKS


def group_name(group: dict) -> str | None:
    """Name of a param group in the log: ``stage2`` or ``depth05``; None if it has neither."""
    if group.get('depth') is not None:
        return f'depth{group["depth"]:02d}'
    if group.get('stage') is not None:
        return f'stage{group["stage"]}'
    return None


def absent_groups(by_name: dict[str, list[dict]]) -> list[str]:
    """Names of the stages (or depths) of which the optimizer has nothing."""
    group = next((groups[0] for groups in by_name.values()), {})
    if group.get('depth') is not None:
        names = [f'depth{depth:02d}' for depth in range(group['num_blocks'] + 2)]
    else:
        names = [f'stage{stage}' for stage in range(1, 1 + (group.get('num_stages') or 0))]
    return [name for name in names if name not in by_name]


@HOOKS.register_module()
class StageLRLoggerHook(Hook):
    """Log learning rate and frozen share of every stage (or depth), to the text log and all visualization backends.

    The host logs the rate of the first group alone. Here ``stage1_lr`` … are written beside it, and ``stage1_frozen``
    where a part is frozen: the share of the group's tensors that no longer train. A stage (or depth) that has no group,
    because its multiplier is 0 or nothing in it trains, has rate 0 and is frozen altogether.

    Needs the groups of ``mm_graft.GraftOptimWrapperConstructor``.

    Args:
        interval: iterations of an epoch between two entries; None: where the run's ``LoggerHook`` writes.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int | None = None) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'interval={interval} counts iterations between log entries; choose at least 1')
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to log, and find out when it is."""
        self.loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        if not self._groups(runner.optim_wrapper):
            raise ValueError('StageLRLoggerHook finds no stages in the optimizer; '
                             "use constructor='mm_graft.GraftOptimWrapperConstructor'")

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Write the rates that the coming step uses."""
        if not self._is_due(runner, batch_idx):
            return
        by_name = self._groups(runner.optim_wrapper)
        for name in absent_groups(by_name):
            runner.message_hub.update_scalar(f'train/{name}_lr', 0.)
            runner.message_hub.update_scalar(f'train/{name}_frozen', 1.)
        for name, groups in by_name.items():
            runner.message_hub.update_scalar(f'train/{name}_lr', groups[0]['lr'])
            tensors = [parameter for group in groups for parameter in group['params']]
            frozen = sum(not parameter.requires_grad for parameter in tensors) / len(tensors)
            if frozen:
                runner.message_hub.update_scalar(f'train/{name}_frozen', frozen)

    def _is_due(self, runner: Runner, batch_idx: int) -> bool:
        if self.interval is not None:
            return self.every_n_inner_iters(batch_idx, self.interval)
        loader = runner.train_dataloader
        for logger in self.loggers:
            rest = self.end_of_epoch(loader, batch_idx)
            if self.every_n_inner_iters(batch_idx, logger.interval) or (
                    rest and (not logger.ignore_last or len(loader) <= logger.interval)):
                return True
        return False

    def _groups(self, optim_wrapper: OptimWrapper) -> dict[str, list[dict]]:
        by_name: dict[str, list[dict]] = {}
        for group in optim_wrapper.optimizer.param_groups:
            name = group_name(group)
            if name is not None:
                by_name.setdefault(name, []).append(group)
        return by_name
