"""Files that are written whole or not at all, and text and JSON from strangers, read within bounds.

Only regular files are opened (symbolic links to them too): a pipe could block forever, a device never ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np

LIMIT = 2**28  # bytes of a text; the list of ImageNet-21k with full paths has half of that
JSON_LIMIT = 2**25  # bytes of a JSON file; as Python objects it may take twenty times as much memory
MAX_DEPTH = 100  # of nested JSON
LINE_LIMIT = 2**20  # bytes of a line
TEXT = 'utf-8-sig'  # UTF-8, with or without the mark at the beginning that Windows writes
FACTS, CHECKSUMS = 'facts.json', 'sha256'  # beside arrays
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LEFT_OVER = re.compile(r'\.(?P<name>.+)\.[0-9a-f]{8}\.part')


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading bytes; never blocks on a pipe and never touches a device.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a directory, a pipe, a device or a socket.
    """
    _check_regular(path, os.stat(path).st_mode)
    file = open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)  # it may have changed since
    except ValueError:
        file.close()
        raise
    return file


def _check_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: 'a directory', stat.S_IFIFO: 'a pipe', stat.S_IFSOCK: 'a socket'}
        raise ValueError(f'{path} is {kinds.get(stat.S_IFMT(mode), "a device")}; give the path of a regular file')


def read_small_bytes(path: str | Path, limit: int = LIMIT) -> bytes:
    """Content of a file; one that is no regular file, or has more than ``limit`` bytes, is a ``ValueError``."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f'{path} has more than {limit} bytes, the most that is read of such a file')
    return content


def sha256_of_file(*paths: str | Path) -> str:
    """SHA-256 of the content of a regular file, or of several one after another, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with open_regular(path) as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def read_small_text(path: str | Path, limit: int = LIMIT) -> str:
    """Text (UTF-8) of a file, as :func:`read_small_bytes`."""
    try:
        return read_small_bytes(path, limit).decode(TEXT)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text in UTF-8: {error.reason} at byte {error.start}') from error


def read_small_json(path: str | Path, limit: int = JSON_LIMIT) -> object:
    """Content of a JSON file, as :func:`read_small_bytes` and :func:`parse_json`."""
    text = read_small_text(path, limit)
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from error


def parse_json(text: str | bytes) -> object:
    """What a JSON text holds; a ``ValueError`` if it is none, or nested deeper than ``MAX_DEPTH``."""
    too_deep = f'nested deeper than {MAX_DEPTH} levels'
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    level, depth = [content], 0
    while level := [node for node in level if isinstance(node, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(too_deep)
        level = [inner for node in level for inner in (node.values() if isinstance(node, dict) else node)]
    return content


def read_lines(path: str | Path, limit: int = LINE_LIMIT) -> Iterator[bytes]:
    """Lines of a regular file of any size, one at a time, each with its end.

    A line of more than ``limit`` bytes is a ``ValueError`` that names file and line.
    """
    with open_regular(path) as file:
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise ValueError(f'{path}, line {number} has more than {limit} bytes, the most that is read of a line')
            yield line


def check_target(path: str | Path, *endings: str) -> None:
    """Check that a file can be written at a path that ends in one of ``endings``, if there are any."""
    if endings and not str(path).endswith(endings):
        raise ValueError(f'{path}: the format follows the name; end it in {" or ".join(endings)}')
    if Path(path).is_dir():
        raise ValueError(f'{path} is a folder; name a file in it')
    check_target_folder(Path(path).parent)


def check_target_folder(path: str | Path) -> None:
    """Check that files can be written into a folder, which may not exist yet."""
    there = next(folder for folder in (Path(path), *Path(path).absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f'{path} cannot be written into: {there} is a file; name a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f'{path} cannot be written into: {there} is read-only; name another folder')


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it is flushed to the disk and takes the name on success.

    So a name never belongs to half a file. A lock on the temporary file says that its writer lives, see
    :func:`remove_abandoned`.
    """
    path = Path(os.path.realpath(path))
    if path.exists():
        _check_regular(path, path.stat().st_mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock = _reserve(path)
    try:
        with writing_to(path, temporary):
            yield temporary
            with temporary.open('rb') as file:  # the writer may have put another file in its place
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)


class WriteError(OSError):
    """A place that takes no more: a full disk, a quota, a limit."""


@contextmanager
def writing_to(path: str | Path, part: str | Path | None = None) -> Iterator[None]:
    """Say what could not be written where a disk is full: ``path``, of which ``part`` is the temporary name."""
    try:
        yield
    except OSError as error:
        of_part = part is not None and str(error.filename or '').startswith(str(part))
        if error.errno not in FULL and not of_part:
            raise
        name = path if of_part or not error.filename else error.filename
        raise WriteError(f'{name} cannot be written: {error.strerror}; make room there, or name another folder'
                         ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text (UTF-8), whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(text, encoding='utf-8')


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` to fill; on success it takes its place, whole or not at all.

    Where another process puts its own there at the same moment, that one stays.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as parent:
        part = Path(parent) / folder.name
        part.mkdir()
        with writing_to(folder, part):
            yield part
        shutil.rmtree(folder, ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray], facts: dict) -> None:
    """Write a folder with arrays, facts about them, and checksums, as :func:`atomic_folder` does."""
    import numpy as np
    with atomic_folder(folder) as part:
        for name, array in arrays.items():
            np.save(part / f'{name}.npy', array)
        written = {name: sha256_of_file(part / f'{name}.npy') for name in arrays}
        (part / FACTS).write_text(json.dumps({**facts, CHECKSUMS: written}))


def read_arrays(folder: Path, names: Iterable[str], mode: str) -> tuple[list[np.ndarray], dict]:
    """Arrays of a folder, mapped from the disk, and the facts; a ``ValueError`` if they are not as written."""
    import numpy as np
    facts = read_small_json(folder / FACTS)
    written = facts.get(CHECKSUMS) if isinstance(facts, dict) else None
    if not isinstance(written, dict) or any(written.get(name) != sha256_of_file(folder / f'{name}.npy')
                                            for name in names):
        raise ValueError(f'{folder} is not as it was written')
    return [np.load(folder / f'{name}.npy', mmap_mode=mode) for name in names], facts


def _reserve(path: Path) -> tuple[Path, int]:
    """A new, locked, empty file beside ``path``, and the descriptor that holds the lock."""
    while True:
        temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')
        lock = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:  # else removed as abandoned before it was locked
            return temporary, lock
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_abandoned(folder: str | Path, suffix: str = '') -> list[Path]:
    """Remove what processes that were killed in :func:`atomic_write` have left in a folder, and return it.

    What a living process writes is locked and stays. ``suffix`` is that of the files that were to be written.
    """
    removed = []
    for path in Path(folder).glob('.*'):
        match = LEFT_OVER.fullmatch(path.name)
        if not match or not match['name'].endswith(suffix) or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), path.open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path)
    return removed
