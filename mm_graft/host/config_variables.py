"""Overriding variables of config files while MMEngine reads them, so that derived values follow.

MMEngine runs the text of each file of a config's inheritance and merges what they assign; it has no way in for values
from outside. Replaced is the step that prepares a file's text (``Config._substitute_predefined_vars``).
"""

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from mmengine.config import Config

LOCAL = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@contextmanager
def assigned(values: Mapping[str, object]) -> Iterator[None]:
    """While open, configs are read as if these were assigned behind each statement that binds their variable.

    A dotted name (``arch.embed_dims``) is a key inside a variable.
    """
    prepare = Config._substitute_predefined_vars

    def prepare_and_assign(filename: str, temp_config_name: str) -> None:
        prepare(filename, temp_config_name)
        if filename.endswith('.py'):
            path = Path(temp_config_name)
            path.write_text(with_values(path.read_text(encoding='utf-8'), values), encoding='utf-8')

    with patch.object(Config, '_substitute_predefined_vars', staticmethod(prepare_and_assign)):
        yield


def with_values(text: str, values: Mapping[str, object]) -> str:
    """A config's text with a line more behind each statement that binds a variable."""
    lines = text.splitlines()
    try:
        statements = ast.parse(text).body
    except SyntaxError:  # MMEngine says what is wrong with it
        return text
    for statement in reversed(statements):
        names = set(_bound(statement))
        lines[statement.end_lineno:statement.end_lineno] = [
            assignment(key, value) for key, value in values.items() if key.split('.')[0] in names]
    return '\n'.join(lines) + '\n'


def assignment(key: str, value: object) -> str:
    """A dotted key and its value as Python; numbers in the key are indices."""
    name, *rest = key.split('.')
    return name + ''.join(f'[{part if part.isdigit() else repr(part)}]' for part in rest) + f' = {value!r}'


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a statement of a module binds."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node) if not isinstance(node, LOCAL) else ():
        yield from _bound(child)
