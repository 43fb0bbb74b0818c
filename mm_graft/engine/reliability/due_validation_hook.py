"""A validation that an interruption prevented is run when training resumes."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from mm_graft.host.run_requests import file_to_load
from mm_graft.host.train_loops import settle_validation_interval
from mm_graft.registry import HOOKS


def validation_is_due(runner: Runner) -> bool:
    """Whether the loop validates at the current position, between two epochs or iterations."""
    loop = runner.train_loop
    if runner.val_loop is None or not runner.iter:
        return False
    if isinstance(loop, EpochBasedTrainLoop):
        if runner.iter != runner.epoch * len(runner.train_dataloader):
            return False
        place, last = runner.epoch, runner.max_epochs
    else:
        place, last = runner.iter, runner.max_iters
    interval = settle_validation_interval(loop)
    return place >= loop.val_begin and (place % interval == 0 or place == last)


@HOOKS.register_module()
class DueValidationHook(Hook):
    """Run a validation that was due where a run resumes and was not completed.

    The host validates after saving, so a run that is stopped or killed during a validation would resume without it;
    after the last epoch there would be no final result and no ``save_best``. `SafeCheckpointHook` records completed
    validations in the run's folder; without it this hook does nothing. A finished run says so.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Validate, after all other hooks are ready to train."""
        self.saver = next((hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)), None)
        if self.saver is None or self.saver.run is None:
            return
        if validation_is_due(runner) and self.saver.run.validated != runner.iter:
            runner.logger.info(f'the validation after iteration {runner.iter} was not completed; it runs now')
            self.saver.last_ckpt = self.saver.last_ckpt or file_to_load(runner)  # so that a best score is saved with it
            runner.val_loop.run()
        if runner.iter >= runner.max_iters > 0:
            runner.logger.info(f'the run is finished after {runner.max_iters} iterations; there is nothing to do')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Record that a validation was completed."""
        if getattr(self, 'saver', None) is not None and self.saver.run is not None:
            self.saver.note(validated=runner.iter)
