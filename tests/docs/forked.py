"""Command lines of mm_graft in processes of their own that begin with everything imported: a dozen times as fast."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

IMPORTED = ['torch', 'torchvision', 'mmpretrain.models', 'mmpretrain.datasets', 'mmseg.models', 'mmseg.datasets',
            'mm_graft.registry']
SECONDS = 600


def run_words(words: Sequence[str], folder: Path, log: Path) -> int | None:
    """The exit status of a command line, run on small configs in ``folder``; ``log`` gets what it prints.

    None: it was not done in time.
    """
    server = multiprocessing.get_context('forkserver')
    server.set_forkserver_preload(IMPORTED)
    process = server.Process(target=_command, args=(list(words), str(folder), str(log)))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join(SECONDS)
        return None
    return process.exitcode


def _command(words: list[str], folder: str, log: str) -> None:
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
