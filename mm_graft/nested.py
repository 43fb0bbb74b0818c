"""Nested configs as dotted keys: one way to go through them and to read a value."""

from collections.abc import Iterator


def nodes(node: object, path: str = '') -> Iterator[tuple[str, object]]:
    """A value and everything inside it as (dotted key, value), parents first; list indices are parts of a key."""
    yield path, node
    for key, child in _children(node):
        yield from nodes(child, f'{path}.{key}' if path else str(key))


def leaves(node: object, path: str = '') -> Iterator[tuple[str, object]]:
    """The values inside that hold no others; an empty dict or list is one too."""
    return ((key, value) for key, value in nodes(node, path) if not _children(value))


def value_at(node: object, key: str) -> object:
    """What a dotted key names, None if nothing does."""
    for part in key.split('.'):
        node = dict(_children(node)).get(part)
    return node


def _children(node: object) -> list[tuple[str, object]]:
    if hasattr(node, 'items'):
        return [(str(key), child) for key, child in node.items()]
    if isinstance(node, list | tuple):
        return [(str(index), child) for index, child in enumerate(node)]
    return []
