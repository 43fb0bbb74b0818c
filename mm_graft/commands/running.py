"""What the commands share once the inputs are checked: processes and the runner."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed

from mm_graft.commands.messages import clean_errors
from mm_graft.host.safe_opening import safe_opening


class StartedHook(Hook):
    """Remember that the first epoch began: from then on an error is no matter of the inputs."""

    started = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Note it."""
        self.started = True


@contextmanager
def guarded() -> Iterator[None]:
    """For programs beside the commands: errors of the inputs in one line, and no file runs code."""
    with clean_errors(), safe_opening():
        yield


def build_runner(cfg: Config) -> Runner:
    """The runner that a config names, or the host's."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def join_processes(cfg: Config) -> None:
    """Let several processes train without a GPU; the host's launcher and wrapper ask for one."""
    if cfg.launcher not in ('pytorch', 'slurm') or get_device() != 'cpu':
        return
    if cfg.launcher == 'slurm':
        slurm_to_torch()
    distributed.init_process_group('gloo')
    if cfg.get('model_wrapper_cfg') is None and 'runner_type' not in cfg:  # other runners wrap in their own way
        cfg.model_wrapper_cfg = dict(type='mm_graft.CPUDataParallel', device_ids=None, broadcast_buffers=False,
                                     find_unused_parameters=cfg.get('find_unused_parameters', False))


def slurm_to_torch() -> None:
    """Tell PyTorch, by its environment variables, which process of a slurm step this is and where the first one runs.

    Raises:
        ValueError: the step was not started by srun.
    """
    for theirs, ours in {'SLURM_PROCID': 'RANK', 'SLURM_NTASKS': 'WORLD_SIZE', 'SLURM_LOCALID': 'LOCAL_RANK'}.items():
        if theirs not in os.environ:
            raise ValueError(f'{theirs} is not in the environment; start by tools/slurm_train.sh, or by srun')
        os.environ[ours] = os.environ[theirs]
    if 'MASTER_ADDR' not in os.environ:
        nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
