"""What the command-line tools share: reading configs, checking inputs early, one clear line for an error."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import Runner
from torch import distributed, nn

from mm_graft.commands.config_keys import RUNNER_KEYS, check_keys
from mm_graft.host.safe_opening import safe_opening

TRACEBACK = 'MM_GRAFT_TRACEBACK'
INPUT_ERRORS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, ImportError, RuntimeError, NameError,
                SyntaxError, OSError, subprocess.CalledProcessError)
CHECKPOINT_KEY = re.compile(r'(^|\.)(mim_checkpoint|load_from)$|^custom_hooks\.\d+\.checkpoint$')


class StartedHook(Hook):
    """Remember that the first epoch began: from then on an error is no matter of the inputs."""

    started = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Note it."""
        self.started = True


@MODEL_WRAPPERS.register_module()
class CPUDataParallel(MMDistributedDataParallel):
    """The host's wrapper with batch norm per process: PyTorch synchronises it on GPUs only."""

    def __init__(self, module: nn.Module, **kwargs) -> None:
        super().__init__(revert_sync_batchnorm(module), **kwargs)


@contextmanager
def clean_errors(started: StartedHook | None = None) -> Iterator[None]:
    """Turn an error of the inputs into one line on stderr and exit status 1, and let no file run code meanwhile.

    Errors after ``started`` keep their traceback, and all do if the environment has MM_GRAFT_TRACEBACK=1.
    """
    try:
        with safe_opening():
            yield
    except INPUT_ERRORS as error:
        if os.environ.get(TRACEBACK) or (started is not None and started.started):
            raise
        sys.stderr.write(f'error: {one_line(error)}\n       (set {TRACEBACK}=1 for the traceback)\n')
        sys.exit(1)


def one_line(error: Exception) -> str:
    """What an error says, without breaks; its name where it says nothing."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return ' '.join(str(message).split()) or type(error).__name__


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file and merge ``--cfg-options`` into it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read as a config, or an option would change nothing.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'config {path} does not exist; the ones of mm_graft are below configs/')
    try:
        cfg = Config.fromfile(path)
    except INPUT_ERRORS as error:
        raise ValueError(f'config {path} cannot be read: {one_line(error)}') from error
    if not RUNNER_KEYS.intersection(cfg):
        raise ValueError(f'config {path} has nothing that a run reads (model, train_dataloader, …); is it a config?')
    if options:
        check_keys(cfg, options)
        cfg.merge_from_dict(options)
    return cfg


def check_paths(cfg: Config) -> None:
    """See that the data and checkpoints that a training reads exist, before anything is built.

    Raises:
        FileNotFoundError: names the key, the path and what to do.
    """
    check_folders(cfg, 'train_dataloader', 'val_dataloader')
    for key, value in _walk(cfg.to_dict()):
        if CHECKPOINT_KEY.search(key) and _is_path(value) and not Path(value).is_file():
            raise FileNotFoundError(
                f'checkpoint {value} ({key}) does not exist; put it there, or say where it is by '
                f'--cfg-options {key}=/path/to/file.pth')


def check_folders(cfg: Config, *loaders: str) -> None:
    """See that the folders exist from which these loaders read.

    Raises:
        FileNotFoundError: names the key, the path and what to do.
    """
    content = cfg.to_dict()
    for key, value in _walk({name: content.get(name) for name in loaders}):
        if key.endswith('.data_root') and _is_path(value) and not Path(value).is_dir():
            raise FileNotFoundError(
                f'data folder {value} ({key}) does not exist; put the data there, or say where it is by '
                f'--cfg-options {key}=/path/to/data')


def build_runner(cfg: Config) -> Runner:
    """The runner that a config names, or the host's."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and bool(value) and '://' not in value


def join_processes(cfg: Config) -> None:
    """Let several processes train without a GPU; the host's launcher and wrapper ask for one."""
    if cfg.launcher not in ('pytorch', 'slurm') or get_device() != 'cpu':
        return
    if cfg.launcher == 'slurm':
        slurm_to_torch()
    distributed.init_process_group('gloo')
    if cfg.get('model_wrapper_cfg') is None and 'runner_type' not in cfg:  # other runners wrap in their own way
        cfg.model_wrapper_cfg = dict(type='CPUDataParallel', device_ids=None, broadcast_buffers=False,
                                     find_unused_parameters=cfg.get('find_unused_parameters', False))


def slurm_to_torch() -> None:
    """Tell PyTorch, by its environment variables, which process of a slurm step this is and where the first one runs.

    Raises:
        KeyError: the step was not started by srun.
    """
    for theirs, ours in {'SLURM_PROCID': 'RANK', 'SLURM_NTASKS': 'WORLD_SIZE', 'SLURM_LOCALID': 'LOCAL_RANK'}.items():
        if theirs not in os.environ:
            raise KeyError(f'{theirs} is not in the environment; start by tools/slurm_train.sh, or by srun')
        os.environ[ours] = os.environ[theirs]
    if 'MASTER_ADDR' not in os.environ:
        nodes = subprocess.run(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        os.environ['MASTER_ADDR'] = nodes.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')


def _walk(node: object, path: str = '') -> Iterator[tuple[str, object]]:
    """All leaves of nested dicts and lists as (dotted key, value)."""
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list | tuple):
        children = ((str(index), child) for index, child in enumerate(node))
    else:
        yield path, node
        return
    for key, child in children:
        yield from _walk(child, f'{path}.{key}' if path else str(key))
