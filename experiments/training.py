"""Training a config in a process of its own: progress bar, log, time limit, and where an interrupted run stands."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmpretrain.registry import MODELS

from mm_graft.analysis.training_curves import read_scalars
from mm_graft.host.first_weights import initialize
from mm_graft.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
STEP = re.compile(r'(?:Epoch\(train\)\s+\[(\d+)\]|Iter\(train\) )\[\s*(\d+)/(\d+)\].*?loss: ([\d.naif]+)')


class TimeUpError(Exception):
    """The time limit is reached; what has been trained so far is kept."""


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of a run, None if there is none."""
    note = folder / 'last_checkpoint'
    return Path(note.read_text().strip()) if note.is_file() else None


def last_epoch(folder: Path) -> int:
    """The epoch whose end the latest checkpoint of a run holds, 0 if it was saved at another moment or not at all."""
    checkpoint = last_checkpoint(folder)
    ended = checkpoint and re.fullmatch(r'epoch_(\d+)', checkpoint.stem)
    return int(ended[1]) if ended else 0


def logged_lines(folder: Path, name: str = 'loss') -> list[dict]:
    """The lines of a run's log that have a value of this name; none before the run has a log."""
    try:
        return read_scalars(folder, name)
    except FileNotFoundError:
        return []


def last_logged(folder: Path, name: str) -> dict | None:
    """The latest line of a run's log that has a value of this name, None before there is one."""
    return next(reversed(logged_lines(folder, name)), None)


def train_command(config: str | Path, folder: Path, seed: int | None = None, options: Sequence[str] = (),
                  gpus: int = 1, flags: Sequence[str] = ()) -> list[str]:
    """The command that trains a config in ``folder``, or resumes it there, on so many GPUs of this node."""
    program = [sys.executable, str(TOOLS / 'train.py'), str(config)]
    if gpus > 1:
        program = ['env', f'PYTHON={sys.executable}', 'bash', str(TOOLS / 'dist_train.sh'), str(config), str(gpus)]
    options = [*([] if seed is None else [f'randomness.seed={seed}']), *options]
    return [*program, *flags, '--work-dir', str(folder), '--resume', *(['--cfg-options', *options] if options else [])]


@contextmanager
def process(command: Sequence[str], **kwargs) -> Iterator[subprocess.Popen]:
    """A process that does not outlive this one: an error here, Ctrl-C or SIGTERM end it, and it is waited for."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with subprocess.Popen(command, **kwargs) as child:
            try:
                yield child
            except BaseException:
                child.terminate()
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


def run(command: Sequence[str], **kwargs) -> None:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with process(command, **kwargs) as child:
        status = child.wait()
    if status:
        raise subprocess.CalledProcessError(status, command)


def run_training(command: Sequence[str], log: Path, title: str, length: int, deadline: float | None = None) -> None:
    """Run a training command of ``length`` epochs or iterations with a progress bar; its output is appended to ``log``.

    Raises:
        RuntimeError: the command failed.
        TimeUpError: it was stopped at ``deadline`` (of ``time.monotonic``).
    """
    with log.open('a') as writer, process(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace') as child:
        follow(child.stdout, writer, title, length, deadline)
    if child.returncode:
        raise RuntimeError(f'{title} stopped with status {child.returncode}; see the end of {log}')


def follow(lines: Iterable[str], log: TextIO, title: str, length: int, deadline: float | None = None) -> None:
    """Copy the lines of a training log and show its progress.

    Raises:
        TimeUpError: a line came after ``deadline``.
    """
    with Progress(total=length, desc=f'{title:>20}',
              bar_format='{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]') as bar:
        for line in lines:
            log.write(line)
            if match := STEP.search(line):
                epoch, step, steps, loss = match.groups()
                start = int(epoch) - 1 if epoch else int(step)
                if not bar.n:
                    bar.initial = start
                bar.n = round(start + int(step) / int(steps), 1) if epoch else start
                bar.set_postfix_str(f'loss {float(loss):.3f}')
            if deadline is not None and time.monotonic() > deadline:
                raise TimeUpError(title)


def save_initial_weights(cfg: Config, folder: Path, seed: int) -> Path:
    """Save the checkpoint of an untrained model, as a run of no epochs would, and return its path."""
    init_default_scope(cfg.default_scope)
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    initialize(model)
    path = folder / 'epoch_0.pth'
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': model.state_dict()}, path)
    (folder / 'last_checkpoint').write_text(str(path))
    return path
