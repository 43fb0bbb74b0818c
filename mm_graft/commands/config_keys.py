"""Which keys of a config count once it has been read: those that a Runner reads. The others only served to write it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from mm_graft.commands.nested import nodes

if TYPE_CHECKING:
    from mmengine.config import Config

# the Runner's arguments, written out because importing the Runner takes seconds
ARGUMENTS = ('model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg',
             'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator',
             'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg',
             'log_processor', 'log_level', 'visualizer', 'default_scope', 'randomness', 'experiment_name')
# what it looks up in its config, and what the FlexibleRunner takes
LOOKED_UP = ('runner_type', 'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'activation_checkpointing',
             'efficient_conv_bn_eval', 'compile', 'strategy', 'init_weights_for_test_or_val')
RUNNER_KEYS = frozenset({*ARGUMENTS, *LOOKED_UP})
CALLED = {'base_lr': 'lr', 'warmup_epochs': 'warmup', 'warmup_iters': 'end'}  # where the value has another name


def check_keys(cfg: Config, keys: Iterable[str]) -> None:
    """See that values put under these dotted keys of a config that was read would change the run.

    Raises:
        ValueError: a key that there is not, or one that was only used while the config was read; names what counts.
    """
    for key in keys:
        top = key.split('.')[0]
        if top in RUNNER_KEYS:
            continue
        if top not in cfg:
            near = get_close_matches(top, RUNNER_KEYS, 1)
            raise ValueError(f'--cfg-options {key}: there is no `{top}` in a config'
                             + (f'; did you mean `{near[0]}`?' if near else ''))
        places = ', '.join(places_of(cfg, top)) or 'model, optim_wrapper, train_dataloader, train_cfg, …'
        raise ValueError(f'--cfg-options {key} would change nothing: `{top}` was only used while the config was read; '
                         f'set what was made of it: {places}')


def places_of(cfg: Config, variable: str) -> list[str]:
    """Keys that a Runner reads where a variable of the config went, by name or because they hold the same thing."""
    value, name = cfg[variable], CALLED.get(variable, variable)
    telling = bool(value) and isinstance(value, str | dict | list | tuple)
    found = (node for key in cfg if key in RUNNER_KEYS for node in nodes(cfg[key], key))
    return [key for key, node in found if key.rsplit('.', 1)[-1] == name or (telling and node == value)]
