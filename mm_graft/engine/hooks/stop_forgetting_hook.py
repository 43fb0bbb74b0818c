"""Stopping a run whose encoder forgets."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mm_graft.checkpoints.intact import ATOMIC
from mm_graft.host.safe_opening import safe_opening
from mm_graft.registry import HOOKS

KEPT = 'kept.pth'


@HOOKS.register_module()
class StopForgettingHook(Hook):
    """Stop a run when a score falls more than ``max_drop`` below that of the initial weights.

    The score is of a ``mm_graft.OnlineKNNHook`` with ``at_start=True`` on images that the encoder should not forget. A
    run that was stopped stays so when it is resumed, unless ``max_drop`` was raised.

    Args:
        max_drop: what may be lost, in points (of percent, for an accuracy).
        score: name of the value in the log.
    """

    priority = 80  # after the evaluation, before the checkpoint

    def __init__(self, max_drop: float, score: str = 'old_knn_top1') -> None:
        if not max_drop >= 0:
            raise ValueError(f'max_drop={max_drop} is what a score may lose; choose a number ≥ 0')
        self.max_drop, self.score = max_drop, score

    def before_train(self, runner: Runner) -> None:
        """Note the score of the start; it is part of the checkpoints."""
        now = read(runner, self.score)
        if runner.iter == 0:
            runner.message_hub.update_info(self._note, now)
        elif self.is_forgetting(runner):
            self.stop(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop if it is time."""
        if self.is_forgetting(runner):
            self.stop(runner)

    @property
    def _note(self) -> str:
        return f'start_of_{self.score}'

    def is_forgetting(self, runner: Runner) -> bool:
        """Whether more was lost than may be."""
        return runner.message_hub.get_info(self._note) - read(runner, self.score) > self.max_drop

    def stop(self, runner: Runner) -> None:
        """End the training after this epoch, and say why."""
        runner.logger.warning(
            f'{self.score} fell from {runner.message_hub.get_info(self._note):.2f} to '
            f'{read(runner, self.score):.2f}, by more than max_drop={self.max_drop:g}: the run stops. Lower rates, '
            'frozen lower stages or an anchor forget less (docs/continue.md)')
        runner.train_loop.stop_training = True


@HOOKS.register_module()
class StepBackHook(StopForgettingHook):
    """Stop a run that forgets, and go back to the best weights that did not: the model ends with those.

    They stand in ``kept.pth`` of the work dir from the first step on: of the evaluations at which ``score`` kept to
    ``max_drop`` the one with the highest ``gain``, the weights of the start among them.

    Args:
        max_drop: as for ``StopForgettingHook``.
        score: of what is not to be forgotten.
        gain: name of the value that says which weights are best, such as that on the new images.
    """

    def __init__(self, max_drop: float, score: str = 'old_knn_top1', gain: str = 'new_knn_top1') -> None:
        super().__init__(max_drop, score)
        self.gain = gain

    def before_train(self, runner: Runner) -> None:
        """Keep the weights of the start; a run that goes on needs those that it kept."""
        if runner.iter == 0:
            self._keep(runner)
        elif runner.iter < runner.max_iters and not Path(runner.work_dir, KEPT).is_file():
            raise ValueError(f'{runner.work_dir} has no {KEPT}, to which this resumed run would step back; copy it '
                             'from the folder in which the run began, or resume there')
        super().before_train(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Keep better weights, or go back."""
        super().after_train_epoch(runner)
        if not self.is_forgetting(runner) and read(runner, self.gain) > runner.message_hub.get_info('best_gain'):
            self._keep(runner)

    def stop(self, runner: Runner) -> None:
        """End the training with the best weights that were kept."""
        super().stop(runner)
        path = Path(runner.work_dir) / KEPT
        with safe_opening():
            runner.load_checkpoint(str(path), map_location='cpu', strict=True)
        runner.logger.warning(f'back to {path}, where {self.gain} was {runner.message_hub.get_info("best_gain"):.2f}')

    def _keep(self, runner: Runner) -> None:
        runner.message_hub.update_info('best_gain', read(runner, self.gain))
        runner.save_checkpoint(runner.work_dir, KEPT, save_optimizer=False, save_param_scheduler=False,
                               backend_args=dict(backend=ATOMIC))


def read(runner: Runner, score: str) -> float:
    """The latest value of a score."""
    scalars = runner.message_hub.log_scalars
    if f'val/{score}' not in scalars:
        known = sorted(name.removeprefix('val/') for name in scalars if name.startswith('val/'))
        raise ValueError(f'nothing gives {score}, known are {known}; add mm_graft.OnlineKNNHook(name=…, at_start=True)')
    return float(runner.message_hub.get_scalar(f'val/{score}').current())
