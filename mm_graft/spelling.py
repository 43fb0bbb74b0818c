"""What a misspelt name was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(unknown: Iterable[str], known: Iterable[str]) -> str:
    """The end of an error message: the known names nearest to unknown ones, or nothing if none is near."""
    known = list(known)
    near = dict.fromkeys(name for word in unknown for name in get_close_matches(word, known, 3))
    return f'; did you mean {", ".join(map(repr, near))}?' if near else ''
