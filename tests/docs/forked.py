"""Command lines of mm_graft on small configs, in processes that begin with everything imported."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.own_process import launch, status_of

SECONDS = 600


def run_words(words: Sequence[str], folder: Path, log: Path) -> int:
    """The exit status of a command line that runs in ``folder``; ``log`` gets what it prints."""
    return status_of(launch(run_command, list(words), str(folder), str(log)), SECONDS)


def run_command(rank: int, words: list[str], folder: str, log: str) -> None:
    os.chdir(folder)
    with open(log, 'w') as writer:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(writer.fileno(), stream.fileno())
    from mm_graft.commands import configs
    from tests.docs.small import small_config
    load = configs.load_config
    configs.load_config = lambda *args: small_config(load(*args))
    from mm_graft.commands.main import main  # imports what reads a config
    main(arguments=words)
