"""Private counters of MMEngine's loops.

A loop by epochs counts the batches of an epoch from 0 also where some of them were done before; a loop settles how
often it validates when it starts; a Runner does not say whether it will train.
"""

from functools import partial

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner


def will_train(runner: Runner) -> bool:
    """Whether a run that has begun is a training, and not a validation or a test."""
    return isinstance(runner._train_loop, BaseLoop)


def settle_validation_interval(loop: BaseLoop) -> int:
    """After how many epochs or iterations a loop validates, at the place where it is."""
    loop._decide_current_val_interval()
    return loop.val_interval


def count_batches_from(loop: EpochBasedTrainLoop, done: int) -> None:
    """Make a loop count its next batch as the one after ``done`` batches of its epoch."""
    loop.run_iter = partial(_run_later_iter, loop, done)


def count_batches_anew(loop: BaseLoop) -> None:
    """Make a loop count from 0, as the host does."""
    vars(loop).pop('run_iter', None)


def _run_later_iter(loop: EpochBasedTrainLoop, done: int, batch_idx: int, data_batch: object) -> None:
    type(loop).run_iter(loop, batch_idx + done, data_batch)
