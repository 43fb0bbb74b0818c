"""Starting processes and runner, shared by the commands."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils.dl_utils import collect_env
from torch import distributed

from mm_graft.commands.launchers import slurm_to_torch
from mm_graft.commands.messages import INPUT_ERRORS, ReportedError, clean_errors
from mm_graft.commands.run_defaults import settle_loaders
from mm_graft.files import WriteError, write_text
from mm_graft.host.config_text import lay_out_once
from mm_graft.host.idle_remarks import asks_something
from mm_graft.host.safe_opening import safe_opening

HOOKS_OF_HOST = 'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'


class StartedHook(Hook):
    """Records that an iteration was completed: later errors are not input errors."""

    started = False

    def after_train_iter(self, runner: Runner, **kwargs: object) -> None:
        """Record it."""
        self.started = True


@contextmanager
def reported(started: StartedHook) -> Iterator[None]:
    """Let the errors of a run that has started keep their traceback, but for those of a full disk."""
    try:
        yield
    except INPUT_ERRORS as error:
        if started.started and not isinstance(error, WriteError):
            raise ReportedError from error
        raise


@contextmanager
def guarded() -> Iterator[None]:
    """For programs other than the commands: one-line input errors, and no code run from files."""
    with clean_errors(), safe_opening():
        yield


def build_runner(cfg: Config) -> Runner:
    """The runner that a config names, or the host's; environment and config go to files, not to the log.

    Loaders get what the config leaves open, see :mod:`mm_graft.commands.run_defaults`.
    """
    lay_out_once()
    chosen = settle_loaders(cfg)
    logging.disable(logging.INFO)
    try:
        built = without_absent_hooks(cfg)
        runner = RUNNERS.build(built) if 'runner_type' in cfg else Runner.from_cfg(built)
    finally:
        logging.disable(logging.NOTSET)
    runner.logger.setLevel(cfg.get('log_level', 'INFO'))  # a logger of MMEngine forgets only so that it was disabled
    runner.logger.addFilter(asks_something)
    if is_main_process():
        environment = Path(runner.log_dir) / 'environment.txt'
        write_text(environment, ''.join(f'{name}: {value}\n' for name, value in collect_env().items()))
        runner.logger.info(f'config and environment: {runner.log_dir}')
        if chosen:
            runner.logger.info(chosen)
    return runner


def without_absent_hooks(cfg: Config) -> Config:
    """A copy without those of ``default_hooks`` that are None, by which the host takes out its own ones alone."""
    copied = cfg.copy()
    if cfg.get('default_hooks'):
        copied.default_hooks = {name: hook for name, hook in cfg.default_hooks.items()
                                if hook is not None or name in HOOKS_OF_HOST}
    return copied


def join_processes(cfg: Config) -> None:
    """Join several processes that train without a GPU, which the host's launcher and wrapper require."""
    if cfg.launcher not in ('pytorch', 'slurm') or get_device() != 'cpu':
        return
    if cfg.launcher == 'slurm':
        slurm_to_torch()
    distributed.init_process_group('gloo')
    if cfg.get('model_wrapper_cfg') is None and 'runner_type' not in cfg:  # other runners wrap in their own way
        cfg.model_wrapper_cfg = dict(type='mm_graft.CPUDataParallel', device_ids=None, broadcast_buffers=False,
                                     find_unused_parameters=cfg.get('find_unused_parameters', False))
