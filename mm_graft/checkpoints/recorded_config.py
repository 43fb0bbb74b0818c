"""The config that a run writes into its checkpoints (``meta['cfg']``), read without running it.

The record is Python, and whoever evaluates it runs what stands in the file. Here only literals and ``dict(…)`` are
understood; anything else (a lambda, a class) is kept as its text.
"""

import ast
from typing import NamedTuple

LIMIT = 2**20  # characters; the longest config of the OpenMMLab projects has a tenth of that
NUMBERS = {'inf': float('inf'), 'nan': float('nan')}


class Missing:
    """What a config does not have."""

    def __repr__(self) -> str:
        return 'not set'


MISSING = Missing()


class Change(NamedTuple):
    """One setting of two configs: its dotted key, and both values."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f'{self.key}: {_short(self.old)} → {_short(self.new)}'


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


def _literal(node: ast.AST) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(child) for child in node.elts]
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
    if old_parts is None or new_parts is None or type(old) is not type(new):
        return [] if _same(old, new) else [Change(key, old, new)]
    return [change for part in {**old_parts, **new_parts}
            for change in changes(old_parts.get(part, MISSING), new_parts.get(part, MISSING),
                                  f'{key}.{part}' if key else str(part))]


def _parts(value: object) -> dict | None:
    if isinstance(value, list):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None


def _same(old: object, new: object) -> bool:
    return old == new or (old != old and new != new)  # nan is nan


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:97]}…'
