"""Checkpoints of a run that are whole: written so, checked so, found again."""

import zipfile
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend

from mm_graft.checkpoints.reading import RUNNER_GLOBALS, CheckpointError
from mm_graft.files import atomic_write

WHOLE = 'mm_graft.whole'


class WholeFileBackend(LocalBackend):
    """The host's local files, except that a written file is there whole or not at all.

    For ``backend_args=dict(backend='mm_graft.whole')``, e.g. of a ``CheckpointHook``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write under a temporary name, flush to the disk, rename."""
        with atomic_write(filepath) as part:
            part.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """As :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend(WHOLE, WholeFileBackend, force=True)


def damage(path: str | Path) -> str | None:
    """What is wrong with a PyTorch file, or None: every byte is read and compared with the sums that stand in it.

    PyTorch's format is a zip archive, which carries a CRC-32 of each of its records, so a cut, overwritten or flipped
    file is recognised without a second file beside it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        with open(path, 'rb') as file:
            file.seek(-22, 2)
            if not file.read().startswith(b'PK\5\6'):
                return 'something follows its archive'
    except Exception as error:  # a damaged archive can fail anywhere in the reader
        return f'no whole archive ({type(error).__name__}: {error})'
    return broken and f'the sum of its record {broken} is wrong'


def training_iteration(path: str | Path) -> int | None:
    """The iteration at which a run can go on from a file; None for a file that holds weights alone.

    Raises:
        CheckpointError: it cannot be opened, or not without running code from it.
    """
    try:
        with torch.serialization.safe_globals(RUNNER_GLOBALS):
            content = torch.load(str(path), map_location='cpu', weights_only=True, mmap=True)
        meta = content['meta'] if 'optimizer' in content else {}
        return meta.get('iter')
    except Exception as error:  # as above
        raise CheckpointError(f'checkpoint {path} cannot be read: {type(error).__name__}') from error


def newest_intact(folder: str | Path) -> tuple[Path | None, dict[Path, str]]:
    """The whole checkpoint in a folder from which a run goes on furthest, and what is wrong with others.

    The order is that of the iterations in the files; names, times and the host's note ``last_checkpoint`` do not count.
    Of damaged files the unreadable ones are named and those that would have been preferred.
    """
    states, damaged = {}, {}
    for path in sorted(Path(folder).glob('*.pth')):
        try:
            states[path] = training_iteration(path)
        except CheckpointError:
            damaged[path] = damage(path) or 'not readable without running code from it'
    resumable = [path for path in states if isinstance(states[path], int)]
    for path in sorted(resumable, key=states.__getitem__, reverse=True):
        if (reason := damage(path)) is None:
            return path, damaged
        damaged[path] = reason
    return None, damaged
