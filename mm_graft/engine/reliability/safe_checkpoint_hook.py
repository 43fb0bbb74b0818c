"""Checkpoints that a crash cannot spoil."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from weakref import finalize

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mm_graft.checkpoints.intact import ATOMIC, corruption_reason, newest_intact
from mm_graft.checkpoints.reading import CheckpointError, integrity
from mm_graft.engine.reliability.resumed_settings import adopt, record_names
from mm_graft.files import remove_abandoned
from mm_graft.host.safe_opening import safe_opening
from mm_graft.registry import HOOKS

STOPPED = 'stopped.pth'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """The host's hook, with checkpoints that are written whole, checked before a resume, and never all removed.

    - A file is written under another name, flushed to the disk and renamed, so a name never belongs to half a file.
    - A run that resumes by itself continues from the newest intact file: its content matches the digest in it (without
      one, PyTorch's checksums), and its weights are finite. Another is named in a warning, and the one before is taken.
      The main process looks, the others are told.
    - The host deletes the oldest file before it writes the next one, so at least two are kept; ``max_keep_ckpts=1``
      means 2.
    - What cannot be written (full disk, read-only folder) ends the run with the path, the reason and the file to resume
      from.

    Args:
        kwargs: as for the host's hook. With ``backend_args`` of another file system the writing is up to that one.

    Raises:
        CheckpointError: before the first iteration, where no checkpoint of those to resume from is whole.
        OSError: a checkpoint cannot be written.
    """

    def __init__(self, *args, backend_args: dict | None = None, **kwargs) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend=ATOMIC), **kwargs)
        if self.max_keep_ckpts == 1:  # would leave none while the next one is written
            self.max_keep_ckpts = 2

    def before_run(self, runner: Runner) -> None:
        """Choose the file to resume from; until the weights are loaded nothing that is opened can run code."""
        self._opening = ExitStack()
        self._opening.enter_context(safe_opening())
        finalize(self, self._opening.close)  # where the run ends before
        if not runner._resume or runner._has_loaded or '://' in (runner._load_from or ''):
            return
        answer = [self._choose(runner) if is_main_process() else None]
        broadcast_object_list(answer)
        path, error = answer[0]
        if error:
            raise CheckpointError(error)
        runner._resume, runner._load_from = path is not None, path

    def before_train(self, runner: Runner) -> None:
        """The weights are loaded."""
        self._opening.close()
        super().before_train(runner)

    before_val = before_test = lambda self, runner: self._opening.close()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Before a resume, let the checkpoint be one of the run that is asked for, see :mod:`.resumed_settings`."""
        if runner._resume:
            adopt(runner, checkpoint, runner._load_from, self._folder(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what a resume needs to tell parameters by name."""
        record_names(runner, checkpoint)

    def save_now(self, runner: Runner) -> str:
        """Save the state after the current iteration, anywhere in an epoch; call it from ``after_train_iter``."""
        return self.save_after(runner, runner.iter + 1)

    def save_after(self, runner: Runner, iterations: int) -> str:
        """Save a state in which so many iterations are done."""
        path = Path(self.out_dir, STOPPED)
        with clear_write_errors(self.out_dir):
            runner.save_checkpoint(self.out_dir, STOPPED, by_epoch=False, backend_args=self.backend_args,
                                   meta=dict(epoch=runner.epoch, iter=iterations))
            if is_main_process():
                Path(runner.work_dir, 'last_checkpoint').write_text(str(path))
        return str(path)

    def _folder(self, runner: Runner) -> Path:
        return Path(self.out_dir, Path(runner.work_dir).name) if self.out_dir else Path(runner.work_dir)

    def _choose(self, runner: Runner) -> tuple[str | None, str | None]:
        """Path or None, and what is wrong or None."""
        folder = self._folder(runner)
        remove_abandoned(folder, '.pth')
        if runner._load_from:
            reason = corruption_reason(runner._load_from)
            return runner._load_from, reason and self._refusal(runner._load_from, reason)
        path, damaged = newest_intact(folder)
        for file, reason in damaged.items():
            runner.logger.warning(f'checkpoint {file} {reason}; it is left alone')
        if path is None and damaged:
            return None, f'no checkpoint in {folder} is whole; remove {", ".join(map(str, damaged))} to start anew'
        runner.logger.info(f'resume from {path}, verified by {integrity(path)}' if path else
                           f'no checkpoint in {folder}; the run starts anew')
        return path and str(path), None

    def _refusal(self, path: str, reason: str) -> str:
        other, _ = newest_intact(Path(path).parent)
        remedy = f'the newest whole one beside it is {other}' if other else 'there is no whole one beside it'
        return f'checkpoint {path} {reason}; {remedy}'

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with clear_write_errors(self.out_dir):
            super()._save_checkpoint_with_step(runner, step, meta)


@contextmanager
def clear_write_errors(folder: str | Path) -> Iterator[None]:
    """Say which checkpoint could not be written, why, and from which one to go on."""
    try:
        yield
    except OSError as error:
        last, _ = newest_intact(folder)
        raise OSError(f'no checkpoint could be written to {folder} ({error}); the newest whole one is {last}: make '
                      'room or choose another folder, and start again with --resume') from error
