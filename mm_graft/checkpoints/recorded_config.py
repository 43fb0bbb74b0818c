"""The config that a run writes into its checkpoints (``meta['cfg']``), read without running it.

The record is Python, and whoever evaluates it runs the content of the file. Here only literals and ``dict(…)`` are
understood; anything else (a lambda, a class) is kept as its text. Of a file only the settings of model, data and test
(and variables that are numbers) are taken over, as hooks, visualizers and the like could do anything. What is built of
them is built of registered classes: the host's registries take any importable function for a ``type``, and a file must
not choose one.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mm_graft.checkpoints.reading import CheckpointError, meta_of, read_content
from mm_graft.nested import nodes
from mm_graft.registry import import_scope, registered
from mm_graft.spelling import begin_of

LIMIT = 2**20  # characters; the longest config of the OpenMMLab projects has a tenth of that
TAKEN = ('model', 'data_preprocessor', 'default_scope', 'work_dir', 'optim_wrapper', *(
    f'{loop}_{part}' for loop in ('train', 'val', 'test') for part in ('dataloader', 'evaluator', 'cfg')))
DTYPE = re.compile(r'[\w.]+')  # which the host evaluates as `torch.…`
NUMBERS = {'inf': float('inf'), 'nan': float('nan')}


class Missing:
    """A missing value of a config."""

    def __repr__(self) -> str:
        return 'not set'


MISSING = Missing()


class Change(NamedTuple):
    """One setting of two configs: its dotted key, and both values."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f'{self.key}: {begin_of(self.old, 100)} → {begin_of(self.new, 100)}'


def parse_config(text: object) -> dict | None:
    """The settings in a config's text, as plain dicts, lists and values; None where it is no such text."""
    if not isinstance(text, str) or len(text) > LIMIT:
        return None
    try:
        body = ast.parse(text).body
        return {node.targets[0].id: _literal(node.value) for node in body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def recorded_config(path: str | Path) -> Config | None:
    """The config that a run wrote into its checkpoint; None where there is none with a ``model.backbone``.

    Raises:
        CheckpointError: the file cannot be opened, or its config asks for something that is no registered class.
    """
    settings = parse_config(meta_of(read_content(path, tensors=False)).get('cfg'))
    if not settings or not isinstance(settings.get('model'), dict) or not settings['model'].get('backbone'):
        return None
    for scope in {'mmengine', settings.get('default_scope') or 'mmpretrain', 'mm_graft'}:
        import_scope(scope)
    settings = {key: value for key, value in settings.items() if key in TAKEN or type(value) in (int, float)}
    for place, name in _values(settings, 'type'):
        import_scope(str(name).partition('.')[0])
        if not registered(name):
            raise CheckpointError(f'checkpoint {path} was made with {place}={name!r}, which is no registered class; '
                                  'give the config it was made with, and import what registers it')
    evaluated = [(place, value) for place, value in _values(settings, 'dtype') if not DTYPE.fullmatch(str(value))]
    for place, value in (*evaluated, *_values(settings, 'trust_remote_code')):
        if value:
            raise CheckpointError(f'checkpoint {path} was made with {place}={value!r}, which would run code; give the '
                                  'config it was made with, if you trust it')
    return Config(settings)


def _values(settings: dict, key: str) -> Iterator[tuple[str, object]]:
    """Values of a key anywhere in a config, behind their dotted keys."""
    return ((f'{place}.{key}' if place else key, node[key]) for place, node in nodes(settings)
            if isinstance(node, dict) and key in node)


def _literal(node: ast.AST) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return (tuple if isinstance(node, ast.Tuple) else list)(_literal(child) for child in node.elts)
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        merged = _literal(node.args[0]) if node.args else {}
        return {**merged, **{keyword.arg: _literal(keyword.value) for keyword in node.keywords}}
    return ast.unparse(node)


def changes(old: object, new: object, key: str = '') -> list[Change]:
    """Where two settings differ, by dotted key; lists are compared place by place."""
    old_parts, new_parts = _parts(old), _parts(new)
    if old_parts is None or new_parts is None or isinstance(old, dict) != isinstance(new, dict):
        same = old == new or (old != old and new != new)  # nan is nan
        return [] if same else [Change(key, old, new)]
    return [change for part in {**old_parts, **new_parts}
            for change in changes(old_parts.get(part, MISSING), new_parts.get(part, MISSING),
                                  f'{key}.{part}' if key else str(part))]


def _parts(value: object) -> dict | None:
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None
