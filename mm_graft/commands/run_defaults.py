"""What a run needs and its config leaves open: processes that load images, and how often the log gets a line.

Both depend on the machine and on the data, so the configs of mm_graft say neither; what a config or the command line
says stays.
"""

import os

import torch
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.runner import IterBasedTrainLoop, Runner

from mm_graft.commands.launchers import told

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
MOST_WORKERS = 16
MOST_ITERATIONS = 100  # between two lines of the log


def usable_cores() -> int:
    """Cores that the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def share_of_cores(launcher: str) -> int:
    """Cores for one of the processes of a job on this machine, at least 1.

    What Slurm was asked for a task (``--cpus-per-task``) is believed; else the usable cores are shared equally.
    """
    if launcher == 'slurm' and os.environ.get('SLURM_CPUS_PER_TASK', '').isdigit():
        return min(usable_cores(), int(os.environ['SLURM_CPUS_PER_TASK']))
    local = told(launcher, 'here') or '1'
    return max(1, usable_cores() // (int(local) if local.isdigit() and int(local) else 1))


def workers_for(cores: int, gpu: bool) -> int:
    """Processes that read images: beside a GPU all cores but one, which prepares steps; on a CPU, which trains, two."""
    return min(MOST_WORKERS, max(1, cores - 1)) if gpu else min(2, cores)


def settle_loaders(cfg: Config) -> str | None:
    """Give the loaders of a config that say no number of workers one; what is for workers only follows their number.

    Returns what was chosen and why, for the log; None where the config says it all.
    """
    loaders = {name: cfg[name] for name in LOADERS if isinstance(cfg.get(name), dict)}
    cores = share_of_cores(cfg.get('launcher', 'none'))
    workers = workers_for(cores, torch.cuda.is_available())
    chosen = [name for name, loader in loaders.items() if loader.get('num_workers') is None]
    for name, loader in loaders.items():
        if name in chosen:
            loader.num_workers = workers
        if loader.get('persistent_workers') is None or not loader.num_workers:
            loader.persistent_workers = loader.num_workers > 0
        if not loader.num_workers:
            loader.pop('prefetch_factor', None)  # torch would refuse it
    return f'{workers} workers for {", ".join(chosen)}: this process has {cores} core{"s" * (cores > 1)} ' \
           '(num_workers of a loader changes it)' if chosen else None


def settle_log(runner: Runner) -> str | None:
    """Let a log without a given interval have lines at even distances: one an epoch, more in long ones.

    Returns what was chosen and why, for the log; None where the config says it, or has no log.
    """
    given = (runner.cfg.get('default_hooks') or {}).get('logger', {})
    loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    if given is None or 'interval' in given or not loggers:
        return None
    loop = runner.train_loop
    length = loop.max_iters if isinstance(loop, IterBasedTrainLoop) else len(loop.dataloader)
    for hook in loggers:
        hook.interval = log_interval(length)
    unit = 'the run' if isinstance(loop, IterBasedTrainLoop) else 'an epoch'
    return f'a line every {loggers[0].interval} of the {length} iterations of {unit} (default_hooks.logger.interval ' \
           'changes it)'


def log_interval(length: int) -> int:
    """Iterations between two lines: the length in equal parts of at most ``MOST_ITERATIONS``, rounded down."""
    return max(1, length // max(1, -(-length // MOST_ITERATIONS)))
