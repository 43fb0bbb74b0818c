"""What ``--cfg-options`` does to a config, and in which order.

1. A variable at the top of the config (``max_epochs``, ``base_lr``) gets its value before anything is derived from it.
2. A key that a Runner reads (``train_cfg.max_epochs``, ``optim_wrapper.optimizer.lr``) is set afterwards, so that it
   wins over what was derived.

What would change nothing is an error.
"""

from __future__ import annotations

import re
from textwrap import shorten
from typing import TYPE_CHECKING

from mm_graft.commands.messages import INPUT_ERRORS, one_line
from mm_graft.nested import leaves, value_at
from mm_graft.spelling import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

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
# of these the host reads what it knows and passes over the rest
PATH = re.compile(r'(data_root|ann_file|load_from|work_dir|out_dir|checkpoint|path)$')  # keys whose values are paths
INNER_KEYS = {'auto_scale_lr': ('enable', 'base_batch_size'),
              'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')}


def apply(cfg: Config, path: Path | None, options: Mapping[str, object]) -> tuple[Config, list[str]]:
    """A config with overrides, and a line about each that shows what became of it.

    Its file ``path`` is read again where variables get other values; it is None for a config out of a checkpoint, which
    has the values of its variables and not what is made of them.
    """
    check_keys(cfg, options)
    options = {key: as_path(cfg, key, value, options) for key, value in options.items()}
    variables = {key: value for key, value in options.items() if key.split('.')[0] not in RUNNER_KEYS}
    inner = {key: value for key, value in options.items() if key not in variables}
    if variables and path is None:
        raise ValueError(f'--cfg-options {next(iter(variables))}: a checkpoint records no variables, only what was '
                         'made of them; set that, or give the config')
    derived = read(path, variables) if variables else cfg
    notes = [f'{key} = {value!r} (command line; the config says {value_at(cfg, key)!r})'
             for key, value in variables.items()]
    for key, value in variables.items():
        check_variable(cfg, path, key, value)
    if derived_keys := changes(cfg, derived):
        notes.append(f'which sets {", ".join(derived_keys)}')
    for key, value in inner.items():
        check_place(derived, key)
        check_replaced(derived, key, value)
        notes.append(f'{key} = {value!r} (command line; otherwise {shorten(repr(value_at(derived, key)), 80)})')
    derived.merge_from_dict(inner)
    return derived, notes


def as_path(cfg: Config, key: str, value: object, options: Mapping[str, object]) -> object:
    """The value of an override; for a path its original text, for a folder named 2024 or with a comma."""
    text, old = getattr(options, 'texts', {}).get(key, ''), value_at(cfg, key)
    path = PATH.search(key) or (isinstance(old, str) and '/' in old)
    return text if path and text[:1] not in ('', '[', '(') and value is not None else value


def read(path: Path, variables: Mapping[str, object]) -> Config:
    """Read a config, with other values of its variables."""
    from mmengine.config import Config

    import mm_graft.registry  # noqa: F401 - teaches MMEngine where `_base_ = 'mmseg::…'` and `'mm_graft::…'` are
    from mm_graft.host.config_variables import assigned
    try:
        with assigned(variables):
            cfg = Config.fromfile(path)
    except INPUT_ERRORS as error:
        given = ' '.join(['', *(f'{key}={value}' for key, value in variables.items())])
        raise ValueError(f'config {path}{given} cannot be read: {one_line(error)}') from error
    if not RUNNER_KEYS.intersection(cfg):
        raise ValueError(f'config {path} has nothing that a run reads (model, train_dataloader, …); is it a config?')
    return cfg


def check_variable(cfg: Config, path: Path, key: str, value: object) -> None:
    """Check that the new value of a variable has its type and changes anything that a Runner reads."""
    old, given = value_at(cfg, key), f'--cfg-options {key}={value}'
    if None not in (old, value) and _kind(old) != _kind(value):
        raise ValueError(f'{given}: expected {_kind(old)}, such as {old!r}')
    after = read(path, {key: value})
    if value_at(after, key) != value:
        raise ValueError(f'{given}: {path} does not assign it as a plain variable; set what is made of it')
    if old != value and not changes(cfg, after):
        raise ValueError(f'{given} would change nothing: no key that a run reads is made of `{key}`')


def changes(before: Config, after: Config) -> list[str]:
    """Keys that a Runner reads and whose values differ, with the new ones."""
    old, new = ({key: value for key, value in leaves(cfg) if key.split('.')[0] in RUNNER_KEYS}
                for cfg in (before, after))
    return [f'{key} = {new.get(key)!r}' for key in {**old, **new} if old.get(key) != new.get(key)]


def check_keys(cfg: Config, keys: Iterable[str]) -> None:
    """Check that dotted keys begin with a variable of the config or with what a Runner reads."""
    for key in keys:
        top, *rest = key.split('.')
        if top not in RUNNER_KEYS and top not in cfg:
            raise ValueError(f'--cfg-options {key}: there is no `{top}` in this config'
                             + did_you_mean([top], {*RUNNER_KEYS, *cfg}))
        if top in INNER_KEYS and rest and rest[0] not in INNER_KEYS[top]:
            raise ValueError(f'--cfg-options {key}: nothing reads `{top}.{rest[0]}`'
                             + did_you_mean(rest[:1], INNER_KEYS[top]))


def check_place(cfg: Config, key: str) -> None:
    """Check that a dotted key can be set: every parent is a dict or a long enough list."""
    node, passed = cfg, []
    for part in key.split('.'):
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                raise ValueError(f'--cfg-options {key}: `{".".join(passed)}` has {len(node)} entries, counted from 0, '
                                 f'and no {part!r}')
            node = node[int(part)]
        elif hasattr(node, 'items') and not (part.isdigit() and part not in node):
            node = node.get(part, {})
        else:
            raise ValueError(f'--cfg-options {key}: `{".".join(passed)}` is {node or None!r} and has no `{part}`')
        passed.append(part)


def check_replaced(cfg: Config, key: str, value: object) -> None:
    """Check that a key that is set is read, and that no settings are replaced by what cannot be any."""
    own = 'model.data_preprocessor'
    if key.split('.')[0] == 'data_preprocessor' and value_at(cfg, own):
        raise ValueError(f'--cfg-options {key} would change nothing: the model has a data_preprocessor of its own; set '
                         f'model.{key}')
    old = value_at(cfg, key)
    if hasattr(old, 'items') and 'type' in old and not (value is None or isinstance(value, dict | list | tuple)):
        raise ValueError(f'--cfg-options {key}={value}: it is a {old["type"]} with settings, not {_kind(value)}; set '
                         f'{key}.type, or its settings one by one')


def _kind(value: object) -> str:
    kinds = {bool: 'true or false', int: 'a number', float: 'a number', str: 'a text', list: 'a list', tuple: 'a list'}
    return kinds.get(type(value), 'a dict')
