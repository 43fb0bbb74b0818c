"""Schedules that were built with other settings than a checkpoint's, brought to the place at which its run resumes.

The host puts everything that a saved schedule knew, its length and its base rates too, over the new one. Here the new
one keeps what it was built from and is moved to its place.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from mmengine.optim import _ParamScheduler

from mm_graft.host.schedule_position import MOVING, jump_to, steps_taken


class Place(NamedTuple):
    """Position of a run: completed epochs, total iterations, and iterations per epoch (0 in iteration-based loops)."""

    epochs: int
    iterations: int
    epoch_length: int

    @property
    def within_epoch(self) -> int:
        """Iterations that are done of an epoch that is not."""
        return self.iterations - self.epochs * self.epoch_length

    def steps(self, schedule: _ParamScheduler) -> int:
        """How often a schedule has been stepped by then."""
        return self.epochs if schedule.by_epoch else self.iterations


def are_as_saved(schedules: Sequence[_ParamScheduler], saved: Sequence[dict], place: Place) -> bool:
    """Whether saved schedules have the settings of the new ones and are at this position."""
    return len(schedules) == len(saved) and all(
        _settings(schedule.state_dict()) == _settings(state) and steps_taken(state) == place.steps(schedule)
        for schedule, state in zip(schedules, saved))


def bring_to(schedules: Sequence[_ParamScheduler], place: Place) -> None:
    """Move newly built schedules of one optimizer, and with them its groups, to a place in the run.

    A single schedule with ``closed_form = True`` jumps there; others, whose values may follow from those before, take
    all steps.
    """
    for schedule in schedules:
        if getattr(schedule, 'need_val_args', False):
            raise ValueError(f'{type(schedule).__name__} follows the metrics of the whole run and cannot be computed '
                             'anew for changed settings; resume with the old ones, or start a new run with load_from')
    if len(schedules) == 1 and getattr(schedules[0], 'closed_form', False):
        jump_to(schedules[0], place.steps(schedules[0]))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message=r'Detected call of `scheduler\.step\(\)` before')
        _replay(schedules, place)


def _settings(state: dict) -> dict:
    return {key: value for key, value in state.items() if key not in MOVING}


def _replay(schedules: Sequence[_ParamScheduler], place: Place) -> None:
    by_epoch = [schedule for schedule in schedules if schedule.by_epoch]
    by_iteration = [schedule for schedule in schedules if not schedule.by_epoch]

    def iterate(count: int) -> None:
        for _ in range(count if by_iteration else 0):
            for schedule in by_iteration:
                schedule.step()

    for _ in range(place.epochs):
        iterate(place.epoch_length)
        for schedule in by_epoch:
            schedule.step()
    iterate(place.within_epoch)
