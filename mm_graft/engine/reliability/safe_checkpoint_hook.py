"""Checkpoints that survive crashes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from weakref import finalize

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mm_graft.checkpoints.intact import ATOMIC, RUN, corruption_reason, newest_intact
from mm_graft.checkpoints.reading import CheckpointError, integrity
from mm_graft.engine.reliability.gradient_carry import GRADIENTS, gather_gradients, restore_gradients, saved_gradients
from mm_graft.engine.reliability.resumed_settings import adopt, record_names
from mm_graft.engine.reliability.run_folder import LAST, Record, asked_run, hold_folder, new_run, write_record
from mm_graft.files import WriteError, remove_abandoned, write_text
from mm_graft.host.run_requests import asked_to_resume, file_to_load, resume_from
from mm_graft.host.safe_opening import safe_opening
from mm_graft.host.train_loops import will_train
from mm_graft.registry import HOOKS

STOPPED = 'stopped.pth'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """The host's hook with atomic writes, verification before a resume, and at least one checkpoint kept at all times.

    - A file is written under a temporary name, flushed to disk and renamed, so that no name refers to half a file.
    - ``--resume`` continues from the newest intact file of the run: its content matches its digest (or PyTorch's
      checksums where there is none), and its weights are finite. Damaged files are named in warnings and skipped.
      Changed settings take effect (:mod:`.resumed_settings`).
    - A folder belongs to one run and to one process at a time (:mod:`.run_folder`).
    - The host deletes the oldest file before it writes the next one, so at least two are kept; ``max_keep_ckpts=1``
      means 2.
    - The epochs (iterations) in ``keep`` are never deleted, and do not count for ``max_keep_ckpts``: what a figure over
      the training needs of a finished run.
    - Partly accumulated gradients are saved (:mod:`.gradient_carry`).
    - A checkpoint that cannot be written (full disk, read-only folder) ends the run with path, reason and the file to
      resume from.

    Args:
        keep: epochs, or iterations with ``by_epoch=False``, whose checkpoints stay.
        kwargs: as for the host's hook. With ``backend_args`` of another file system the writing is up to that one.
    """

    run: Record | None = None
    gradients: dict = {}  # noqa: RUF012 (replaced, never changed): half accumulated, of a file that is read or written

    def __init__(self, *args, keep: Sequence[int] = (), backend_args: dict | None = None, **kwargs) -> None:
        super().__init__(*args, backend_args=backend_args or dict(backend=ATOMIC), **kwargs)
        if never := [step for step in keep if step % self.interval]:
            raise ValueError(f'keep={list(keep)}: nothing is saved at {never}, since interval={self.interval}; choose '
                             'multiples of it')
        self.keep = frozenset(keep)
        if self.max_keep_ckpts == 1:  # would leave none while the next one is written
            self.max_keep_ckpts = 2

    def before_run(self, runner: Runner) -> None:
        """Find out which run this is, and choose the file to resume from.

        Until the weights are loaded nothing that is opened can run code.
        """
        self._opening = ExitStack()
        self._opening.enter_context(safe_opening())
        finalize(self, self._opening.close)  # where the run ends before
        if self.run is not None or not will_train(runner):  # a validation or a test
            return
        self.folder = checkpoint_folder(runner.work_dir, self.out_dir)
        answer = [self._begin(runner) if is_main_process() else None]
        broadcast_object_list(answer)
        self.run, path, error = answer[0]
        if error:
            self._opening.close()
            raise error
        if asked_to_resume(runner):
            resume_from(runner, path)

    def before_train(self, runner: Runner) -> None:
        """The weights are loaded."""
        self._opening.close()
        super().before_train(runner)
        if self.gradients:
            restore_gradients(runner, self.gradients)
            self.gradients = {}

    before_val = before_test = lambda self, runner: self._opening.close()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Before a resume, adapt the checkpoint to the settings of this run."""
        if not asked_to_resume(runner) or self.run is None:
            return
        try:
            adopt(runner, checkpoint, file_to_load(runner), self.folder)
        except BaseException:
            self._opening.close()
            raise
        self.gradients = saved_gradients(runner, checkpoint)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the identity of the run, and the parameter names that a resume needs."""
        if self.run is not None:
            checkpoint['meta'][RUN] = self.run.run
        record_names(runner, checkpoint)
        if self.gradients:
            checkpoint[GRADIENTS] = self.gradients

    def save_now(self, runner: Runner) -> str:
        """Save the state after the current iteration, anywhere in an epoch; call it from ``after_train_iter``."""
        return self.save_after(runner, runner.iter + 1)

    def save_after(self, runner: Runner, iterations: int) -> str:
        """Save the state after a number of completed iterations."""
        path = Path(self.out_dir, STOPPED)
        with self._gradients_of(runner), clear_write_errors(self.out_dir):
            runner.save_checkpoint(self.out_dir, STOPPED, by_epoch=False, backend_args=self.backend_args,
                                   meta=dict(epoch=runner.epoch, iter=iterations))
            if is_main_process():
                write_text(Path(runner.work_dir, LAST), str(path))
        return str(path)

    def note(self, **values: object) -> None:
        """Write down something about the run, in the main process."""
        self.run = self.run._replace(**values)
        if is_main_process():
            write_record(self.folder, self.run)

    def _begin(self, runner: Runner) -> tuple[Record | None, str | None, Exception | None]:
        """The record of this run, the file to resume from or None, and an error or None."""
        try:
            with clear_write_errors(self.folder):
                for folder in {runner.work_dir, str(self.folder)}:
                    hold_folder(folder)
                remove_abandoned(self.folder, '.pth')
                run = asked_run(self.folder, asked_to_resume(runner), file_to_load(runner))
                path = self._choose(runner, run) if asked_to_resume(runner) else None
                if run is None:  # of a version that wrote no identities
                    run = new_run(path)
                write_record(self.folder, run)
                last = Path(runner.work_dir, LAST)
                write_text(last, path) if path else last.unlink(missing_ok=True)
        except (ValueError, OSError) as error:
            return None, None, error
        return run, path, None

    def _choose(self, runner: Runner, run: Record | None) -> str | None:
        """The file to resume from, None if there is none."""
        given = file_to_load(runner)
        if given and '://' in given:
            return given
        path, damaged = (None, {}) if given else newest_intact(self.folder, run and run.run)
        for file, reason in damaged.items():
            runner.logger.warning(f'checkpoint {file} {reason}; skipped')
        if path is None and damaged:
            raise CheckpointError(f'no checkpoint in {self.folder} is intact; remove {", ".join(map(str, damaged))} to '
                                  'start over')
        given = given or (path is None and run and run.began_from)
        if given and (reason := corruption_reason(given)):
            other, _ = newest_intact(Path(given).parent)
            remedy = f'the newest intact one beside it is {other}' if other else 'there is no intact one beside it'
            raise CheckpointError(f'checkpoint {given} {reason}; {remedy}')
        path = given or path
        runner.logger.info(f'resume from {path}, verified by {integrity(path)}' if path else
                           f'no checkpoint in {self.folder}; starting from the beginning')
        return str(path) if path else None

    @contextmanager
    def _gradients_of(self, runner: Runner) -> Iterator[None]:
        """Add the accumulated gradients to what is saved meanwhile; a collective call."""
        before, self.gradients = self.gradients, gather_gradients(runner)
        try:
            yield
        finally:
            self.gradients = before

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._gradients_of(runner), clear_write_errors(self.out_dir):
            limit = self.max_keep_ckpts
            self.max_keep_ckpts = -1 if step in self.keep else limit  # the host then neither counts nor deletes
            try:
                super()._save_checkpoint_with_step(runner, step, meta)
            finally:
                self.max_keep_ckpts = limit

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._gradients_of(runner), clear_write_errors(self.out_dir):
            super()._save_best_checkpoint(runner, metrics)


def checkpoint_folder(work_dir: str | Path, out_dir: str | Path | None) -> Path:
    """Where a run's checkpoints go: its work folder, or a folder of that name in another one."""
    return Path(out_dir, Path(work_dir).name) if out_dir else Path(work_dir)


@contextmanager
def clear_write_errors(folder: str | Path) -> Iterator[None]:
    """Say which checkpoint could not be written, why, and from which one to go on."""
    try:
        yield
    except OSError as error:
        last, _ = newest_intact(folder)
        raise WriteError(f'no checkpoint could be written to {folder} ({error.__cause__ or error}); the newest intact '
                         f'one is {last}: make room or choose another folder, and start again with --resume') from error
