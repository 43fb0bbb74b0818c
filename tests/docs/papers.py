"""The tables of docs/papers.md: what of a paper is here, the commands that make it, and the state."""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / 'docs' / 'papers.md'
HEAD = ['item', 'command', 'state']


class Row(NamedTuple):
    """A table, figure or number of a paper."""

    item: str
    commands: list[str]
    state: str


def sections() -> dict[str, list[Row]]:
    """The rows of each paper, by the title of its section up to the first bracket or colon."""
    found = {}
    for section in PAGE.read_text().split('\n## ')[1:]:
        lines = re.findall(r'^\|.*\|$', section, re.M)
        cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
        if cells:
            assert cells[0] == HEAD, section
            title = re.match(r'[^(:\n]+', section)[0].strip()
            found[title] = [Row(item, re.findall(r'`([^`]+)`', command), state) for item, command, state in cells[2:]]
    return found


ROWS = [row for rows in sections().values() for row in rows]
