"""Tables of a page of Markdown that commands write: each stands between two comments with its name."""

from pathlib import Path


def parts(page: Path, name: str) -> tuple[str, str, str]:
    """What stands before a table, between ``<!-- name -->`` and ``<!-- /name -->``, and after it.

    Raises:
        ValueError: the page has no such place.
    """
    content, marks = page.read_text(), (f'<!-- {name} -->\n', f'<!-- /{name} -->')
    if any(content.count(mark) != 1 for mark in marks):
        raise ValueError(f'{page} has no place of its own for the table {name!r}; put {" and ".join(marks)} into it')
    start, rest = content.split(marks[0])
    table, end = rest.split(marks[1])
    return start + marks[0], table, marks[1] + end


def put(page: Path, name: str, text: str) -> None:
    """Write a table in its place."""
    start, _, end = parts(page, name)
    page.write_text(f'{start}{text.strip()}\n{end}')
