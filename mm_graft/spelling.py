"""Names and values in messages: what a misspelt name was meant to be, the first of many, the beginning of a text."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def did_you_mean(unknown: Iterable[str], known: Iterable[str]) -> str:
    """The end of an error message: the known names nearest to unknown ones, or nothing if none is near."""
    known = list(known)
    near = dict.fromkeys(name for word in unknown for name in get_close_matches(word, known, 3))
    return f'; did you mean {", ".join(map(repr, near))}?' if near else ''


def named(numbers: Iterable[int], names: Sequence[str]) -> list[str | int]:
    """Names of numbered things, such as classes; the number where there is none."""
    return [names[number] if number < len(names) else number for number in numbers]


def some_of(names: Sequence[str], most: int = 10, separator: str = ', ') -> str:
    """The first names, and how many more there are."""
    return separator.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def begin_of(value: object, most: int = 60) -> str:
    """The beginning of how Python writes a value."""
    text = repr(value)
    return text if len(text) <= most else f'{text[:most - 3]}…'
