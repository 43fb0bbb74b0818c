"""A schedule whose values follow from its settings and the step alone is put at a step without taking those before.

MMEngine's schedules know only their own next step, and keep where they are to themselves.
"""

from mmengine.optim import _ParamScheduler

MOVING = frozenset({'last_step', '_global_step', '_last_value', 'verbose', 'best', 'num_bad_epochs',
                    'cooldown_counter'})  # of a schedule's state; the rest was given to it


def steps_taken(state: dict) -> int:
    """How often the schedule of this state dict has been stepped."""
    return state['_global_step']


def jump_to(schedule: _ParamScheduler, steps: int) -> None:
    """Move a schedule, and the groups of its optimizer, to its position after a number of steps."""
    schedule._global_step = steps
    if steps >= schedule.begin:
        schedule.last_step = min(steps, schedule.end - 1) - schedule.begin
        for group, value in zip(schedule.optimizer.param_groups, schedule._get_value()):
            group[schedule.param_name] = value
    schedule._last_value = [group[schedule.param_name] for group in schedule.optimizer.param_groups]
