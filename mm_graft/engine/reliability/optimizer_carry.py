"""Optimizer and schedules of a resumed run: built from the new settings, with the saved state and position.

``load_state_dict`` of the host and of PyTorch matches groups by position and overwrites the new settings with the saved
ones; PyTorch's ``get_optimizer_state_dict`` matches by name but keeps the saved settings too.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, _ParamScheduler
from torch import nn

from mm_graft.checkpoints.recorded_config import MISSING, Change
from mm_graft.engine.reliability.schedule_replay import Place, are_as_saved, bring_to
from mm_graft.spelling import some_of

NAMES = 'param_names'
SCALER = 'loss_scaler'

Names = list[list[str]]  # of the parameters of each group


class Built(NamedTuple):
    """An optimizer and its schedules, newly built from the current settings."""

    wrapper: OptimWrapper
    schedules: Sequence[_ParamScheduler]
    names: Names


class Saved(NamedTuple):
    """Their counterparts in a checkpoint; names None if it has none."""

    optimizer: dict
    schedules: Sequence[dict]
    names: Names | None


def parameter_names(wrapper: OptimWrapper, model: nn.Module) -> Names:
    """Names of the parameters of each group of the optimizer itself."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names.get(id(parameter), '?') for parameter in group['params']]
            for group in wrapper.optimizer.param_groups]


def carry_over(built: Built, saved: Saved, place: Place, fresh_scaler: bool) -> tuple[Saved, list[Change]]:
    """State dicts for the new objects, and the changed settings; the saved ones themselves if none changed.

    Then ``built`` is brought to ``place``, where the run resumes in today's iterations.
    """
    old = saved.names or group_names(saved.optimizer)
    sizes = [len(group['params']) for group in saved.optimizer['param_groups']]
    if old is None:
        if sizes != [len(group) for group in built.names]:
            raise ValueError(f'the checkpoint has optimizer groups of {sizes} parameters, now they have '
                             f'{[len(group) for group in built.names]}, and it does not name them; resume with the '
                             'settings that it was made with, or start a new run with load_from')
        old = built.names
    if old == built.names:
        found = group_changes(built, saved.optimizer['param_groups'])
        same_scaler = not fresh_scaler and hasattr(built.wrapper, SCALER) == (SCALER in saved.optimizer)
        if not found and same_scaler and are_as_saved(built.schedules, saved.schedules, place):
            return saved, []
    else:
        found = [Change('optimizer groups', sizes, [len(group) for group in built.names])]
    bring_to(built.schedules, place)
    optimizer = built.wrapper.state_dict() | {'state': state_by_name(saved.optimizer, old, built.names)}
    if SCALER in optimizer and SCALER in saved.optimizer and not fresh_scaler:
        optimizer[SCALER] = saved.optimizer[SCALER]
    return Saved(optimizer, [schedule.state_dict() for schedule in built.schedules], built.names), found


def group_names(optimizer: dict) -> Names | None:
    """Names that a saved optimizer's groups have themselves; None if not all have."""
    groups = optimizer['param_groups']
    return [list(group[NAMES]) for group in groups] if all(NAMES in group for group in groups) else None


def group_changes(built: Built, saved: Sequence[dict]) -> list[Change]:
    """Settings of groups with the same parameters that differ: each once, as in the first group that differs."""
    moved = {schedule.param_name for schedule in built.schedules}  # by schedules, so they differ in any case
    left_out = {'params', NAMES, *moved} | ({'betas'} if 'momentum' in moved else set())
    found: dict[str, Change] = {}
    for new, old in zip(built.wrapper.optimizer.param_groups, saved):
        for key in {**old, **new}:
            before, after = old.get(key, MISSING), new.get(key, MISSING)
            if key not in left_out and before != after:
                found.setdefault(key, Change(f'{key} of the optimizer', before, after))
    return list(found.values())


def state_by_name(optimizer: dict, old: Names, new: Names) -> dict[int, dict]:
    """A saved optimizer's state of each parameter, under its index in the new groups; says what begins without any."""
    indices = [index for group in optimizer['param_groups'] for index in group['params']]
    state = {name: optimizer['state'][index] for name, index in zip(chain.from_iterable(old), indices)
             if index in optimizer['state']}
    names = list(chain.from_iterable(new))
    without = [name for name in names if name not in state]
    if state and without:
        print_log(f'the checkpoint has no state of the optimizer for {len(without)} of {len(names)} parameters '
                  f'({some_of(without, 3)}); those that train start with none',
                  logger='current')
    return {index: state[name] for index, name in enumerate(names) if name in state}
