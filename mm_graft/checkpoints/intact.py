"""Checkpoints of a run that are whole: written so, checked so, found again."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mm_graft.checkpoints.reading import CheckpointError, read_content
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


def corruption_reason(path: str | Path) -> str | None:
    """What follows "checkpoint PATH" in an error about it, or None: all of it is read as a run reads it."""
    try:
        read_content(path)
    except CheckpointError as error:
        return str(error).removeprefix(f'checkpoint {path} ')
    return None


def training_iteration(path: str | Path) -> int | None:
    """The iteration from which a run can continue with a file; None for a file that holds weights alone.

    Raises:
        CheckpointError: it cannot be opened, or not without running code from it.
    """
    content = read_content(path, tensors=False)
    meta = content.get('meta') if isinstance(content, dict) and 'optimizer' in content else None
    return meta.get('iter') if isinstance(meta, dict) else None


def newest_intact(folder: str | Path) -> tuple[Path | None, dict[Path, str]]:
    """The whole checkpoint in a folder from which a run goes on furthest, and what is wrong with others.

    The order is that of the iterations in the files; names, times and the host's note ``last_checkpoint`` do not count.
    Of damaged files the unreadable ones are named and those that would have been preferred.
    """
    states, damaged = {}, {}
    for path in sorted(Path(folder).glob('*.pth')):
        try:
            states[path] = training_iteration(path)
        except CheckpointError as error:
            damaged[path] = str(error).removeprefix(f'checkpoint {path} ')
    resumable = [path for path in states if isinstance(states[path], int)]
    for path in sorted(resumable, key=states.__getitem__, reverse=True):
        if (reason := corruption_reason(path)) is None:
            return path, damaged
        damaged[path] = reason
    return None, damaged
