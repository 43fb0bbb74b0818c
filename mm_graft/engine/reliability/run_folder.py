"""A run's folder: which run its files belong to, and which process uses it.

A run starts without ``--resume``, or with ``--resume FILE``, and has an identity, which is stored in ``run.json`` and
in its checkpoints. ``--resume`` alone continues the run of ``run.json``, from its own files only. (The host takes
whatever file ``last_checkpoint`` names.)
"""

import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from mm_graft.checkpoints.intact import RUN, training_meta
from mm_graft.checkpoints.reading import CheckpointError
from mm_graft.files import read_small_json, read_small_text, write_text, writing_to
from mm_graft.spelling import some_of

RECORD, LOCK, LAST = 'run.json', '.run.lock', 'last_checkpoint'
_held: dict[Path, tuple[int, int]] = {}  # folder → process and descriptor; never closed, so held until the process ends


class Record(NamedTuple):
    """What ``run.json`` says of the run whose files these are."""

    run: str  #: its identity
    began_from: str | None = None  #: the file from which it began, for as long as it has none of its own
    validated: int | None = None  #: the iteration after which its last complete validation was made


def hold_folder(folder: str | Path) -> None:
    """Lock a folder for this process until it ends; may be called repeatedly.

    The lock (``fcntl``) belongs to the process, so neither a killed process nor its loader's children can leave it
    behind. File systems without locks go unprotected.
    """
    folder = Path(folder).resolve()
    if _held.get(folder, (None, ))[0] == os.getpid():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    if lock.is_symlink() or (lock.exists() and not lock.is_file()):
        raise ValueError(f'{lock} is no regular file, and what it leads to would be overwritten; remove it')
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        with suppress(OSError, ValueError):
            error.filename = read_small_text(lock, 1000)
        raise ValueError(f'another run is using {folder} ({error.filename or "unknown process"}); give this one '
                         'another --work-dir, or end that one first') from error
    except OSError:
        return
    with writing_to(lock):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f'process {os.getpid()} on {socket.gethostname()}'.encode())
    _held[folder] = os.getpid(), descriptor


def read_record(folder: str | Path) -> Record | None:
    """The record of the run in a folder; None if there is none."""
    path = Path(folder, RECORD)
    try:
        content = read_small_json(path, 2**16)
        return Record(**{name: content[name] for name in Record._fields})
    except FileNotFoundError:
        return None
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is not the record of a run; remove it and give --resume FILE') from error


def write_record(folder: str | Path, record: Record) -> None:
    """Note which run the folder belongs to."""
    write_text(Path(folder, RECORD), json.dumps(record._asdict()))


def run_files(folder: str | Path) -> dict[Path, str | None]:
    """Files of a folder from which a run can go on, and the identity of their run (None in files without one)."""
    found = {}
    for path in sorted(Path(folder).glob('*.pth')):
        with suppress(CheckpointError):
            if (meta := training_meta(path)) is not None:
                found[path] = meta.get(RUN)
    return found


def asked_run(folder: str | Path, resume: bool, load_from: str | None) -> Record | None:
    """The requested run: that of the folder of its checkpoints, or a new one.

    It goes on from ``load_from``, if ``resume`` says so, or from the newest file of the folder's run. Files that are
    from before there were identities have no record: None.
    """
    record, files = read_record(folder), run_files(folder)
    some = some_of([path.name for path in files], 3)
    if not resume or load_from is not None:
        began_from = str(Path(load_from).resolve()) if resume else None
        at_home = resume and Path(began_from).parent == Path(folder).resolve()
        again = resume and record is not None and record.began_from == began_from
        if files and not at_home and not again:
            raise ValueError(f'{folder} has the checkpoints of a run ({some}); continue it with --resume, give another '
                             '--work-dir, or remove them')
        return new_run(began_from)
    if record is None:
        runs = set(files.values())
        if len(runs) > 1:
            raise ValueError(f'{folder} has checkpoints of several runs ({some}); choose one with --resume FILE')
        return None if runs == {None} else Record(*runs) if runs else new_run()
    if files and record.run not in files.values() and record.began_from is None:
        raise ValueError(f'{folder} has checkpoints of another run only ({some}); continue that one with --resume '
                         'FILE, or remove them')
    return record


def new_run(began_from: str | None = None) -> Record:
    """A run that there has not been."""
    return Record(uuid4().hex, began_from)
