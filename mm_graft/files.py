"""Text and JSON from strangers: bounded in size, with one kind of error."""

import json
from pathlib import Path

LIMIT = 2**28  # the list of ImageNet-21k with full paths has half of that


def read_small_text(path: str | Path, limit: int = LIMIT) -> str:
    """Text of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: more than ``limit`` bytes, or no UTF-8; the message names the file.
    """
    with open(path, 'rb') as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f'{path} has more than {limit} bytes; it is no list or report')
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text in UTF-8: {error.reason} at byte {error.start}') from error


def read_small_json(path: str | Path, limit: int = LIMIT) -> object:
    """Content of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as :func:`read_small_text`, or no JSON.
    """
    text = read_small_text(path, limit)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no JSON: {error}') from error
