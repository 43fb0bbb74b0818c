"""Following a training that runs in a process of its own: where it stands, and stopping it in time."""

import re
import subprocess
import time
from collections.abc import Iterable
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
    """The epoch of the latest checkpoint of a run, 0 if there is none."""
    checkpoint = last_checkpoint(folder)
    return int(checkpoint.stem.removeprefix('epoch_')) if checkpoint else 0


def follow(lines: Iterable[str], log: TextIO, title: str, max_epochs: int, deadline: float | None = None) -> None:
    """Copy the lines of a training log, showing where it stands.

    Raises:
        TimeUpError: a line came after ``deadline`` (of ``time.monotonic``).
    """
    with tqdm(total=max_epochs, desc=f'{title:>20}', unit='epoch',
              bar_format='{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]') as bar:
        for line in lines:
            log.write(line)
            if match := STEP.search(line):
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
