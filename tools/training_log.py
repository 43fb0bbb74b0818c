"""Following a training that runs in a process of its own: where it stands, and stopping it in time."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?loss: ([\d.naif]+)')


class TimeUpError(Exception):
    """The time that was given is over; what is trained so far is kept."""


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of a run."""
    note = folder / 'last_checkpoint'
    return Path(note.read_text().strip()) if note.is_file() else None


def last_epoch(folder: Path) -> int:
    """The epoch that the latest checkpoint of a run ends, 0 if it ends none: there is none, or a signal left it."""
    checkpoint = last_checkpoint(folder)
    ended = checkpoint and re.fullmatch(r'epoch_(\d+)', checkpoint.stem)
    return int(ended[1]) if ended else 0


def follow(lines: Iterable[str], log: TextIO, title: str, max_epochs: int, deadline: float | None = None) -> None:
    """Copy the lines of a training log, showing where it stands.

    Raises:
        TimeUpError: a line came after ``deadline`` (of ``time.monotonic``).
    """
    with tqdm(total=max_epochs, desc=f'{title:>20}', unit='epoch', disable=not max_epochs,
              bar_format='{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]') as bar:
        for line in lines:
            log.write(line)
            if max_epochs and (match := STEP.search(line)):
                epoch, step, steps, loss = match.groups()
                if not bar.n:
                    bar.initial = int(epoch) - 1
                bar.n = int(epoch) - 1 + int(step) / int(steps)
                bar.set_postfix_str(f'loss {float(loss):.3f}')
            if deadline is not None and time.monotonic() > deadline:
                raise TimeUpError(title)


def run_training(command: list, log: Path, title: str, max_epochs: int, deadline: float | None = None) -> None:
    """Run a training command to its end, with a progress bar; its output goes to the end of ``log``.

    Raises:
        RuntimeError: it failed.
        TimeUpError: it was stopped at ``deadline``.
    """
    with log.open('a') as writer, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            follow(process.stdout, writer, title, max_epochs, deadline)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise RuntimeError(f'{title} stopped with status {process.returncode}; see the end of {log}')


def run_forked(call: Callable[[], object], log: Path, title: str, max_epochs: int = 0,
               deadline: float | None = None) -> None:
    """As :func:`run_training`, for a function in a copy of this process: what is imported is not imported again.

    This process must not have used a GPU or several threads before.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if not process:
        os.close(reader)
        _call_and_exit(call, writer)
    os.close(writer)
    status = None
    try:
        with os.fdopen(reader, errors='replace') as lines, log.open('a') as copy:
            follow(lines, copy, title, max_epochs, deadline)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    finally:
        if status is None:
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)
    if status:
        raise RuntimeError(f'{title} stopped with status {status}; see the end of {log}')


def _call_and_exit(call: Callable[[], object], output: int) -> None:
    """End this process after a call whose output goes into a pipe."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1) for number in (1, 2))
    status = 1
    try:
        call()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
        os._exit(status)
