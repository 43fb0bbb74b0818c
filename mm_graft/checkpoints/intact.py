"""Checkpoints of a run that are intact: written so, checked so, found again."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mm_graft.checkpoints.digest import seal
from mm_graft.checkpoints.reading import CheckpointError, first_non_finite, meta_of, read_content
from mm_graft.files import atomic_write

ATOMIC = 'mm_graft.atomic'
AVERAGE = 'ema_state_dict'  # beside the weights, by the host's `EMAHook`
RUN = 'run_id'  # in `meta`: which run a checkpoint is of


class AtomicBackend(LocalBackend):
    """The host's local backend with atomic writes, and digests in checkpoints.

    For ``backend_args=dict(backend='mm_graft.atomic')``, e.g. of a ``CheckpointHook``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write under a temporary name, flush to the disk, rename."""
        with atomic_write(filepath) as part:
            part.write_bytes(obj)
            seal(part)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """As :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC, AtomicBackend)


def corruption_reason(path: str | Path) -> str | None:
    """What follows "checkpoint PATH" in an error about it, or None.

    All of the file is read as a run reads it, and no weight, averaged ones included, may be NaN or infinite.
    """
    try:
        content = read_content(path)
    except CheckpointError as error:
        return str(error).removeprefix(f'checkpoint {path} ')
    parts = [content.get('state_dict', content), content.get(AVERAGE)] if isinstance(content, dict) else []
    names = (first_non_finite(weights) for weights in parts if isinstance(weights, dict))
    name = next(filter(None, names), None)
    return name and f'has weights that are NaN or infinite, first {name}'


def training_meta(path: str | Path) -> dict | None:
    """``meta`` of a file from which a run can go on; None for a file that holds weights alone.

    Raises:
        CheckpointError: it cannot be opened, or not without running code from it.
    """
    content = read_content(path, tensors=False)
    meta = meta_of(content)
    return meta if isinstance(meta.get('iter'), int) and 'optimizer' in content else None


def newest_intact(folder: str | Path, run: str | None = None) -> tuple[Path | None, dict[Path, str]]:
    """The most advanced intact checkpoint of a folder (of a run's ``meta['run_id']``), and the damage of others.

    The order is that of epochs and iterations in the files; names, times and the host's note ``last_checkpoint`` do not
    count. Of damaged files the unreadable ones are named and those that would have been preferred.
    """
    states, damaged = {}, {}
    for path in sorted(Path(folder).glob('*.pth')):
        try:
            states[path] = training_meta(path)
        except CheckpointError as error:
            damaged[path] = str(error).removeprefix(f'checkpoint {path} ')
    own = {path: (meta.get('epoch', 0), meta['iter']) for path, meta in states.items()
           if meta and run in (None, meta.get(RUN))}
    for path in sorted(own, key=own.__getitem__, reverse=True):
        if (reason := corruption_reason(path)) is None:
            return path, damaged
        damaged[path] = reason
    return None, damaged
