"""The doctor: what this machine offers for training, its problems, and their fixes."""

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FAMILY = {'mmengine': 'mmengine', 'mmcv': 'mmcv', 'mmpretrain': 'mmpretrain', 'mmsegmentation': 'mmseg'}
ALSO = {'mmcv': ('mmcv-lite', )}
SHARED_MEMORY = 2**30
DISK = 5 * 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report; ``ok`` is None for mere information, ``fix`` the remedy where it is False."""

    name: str
    value: str
    ok: bool | None = None
    fix: str = ''


def version(distribution: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_python() -> Check:
    """The interpreter."""
    return Check('python', f'{platform.python_version()} at {sys.executable}', sys.version_info >= (3, 10),
                 'use Python 3.10 or later')


def check_family(package: str) -> Check:
    """Which of the two families a host package is of; they share the import name."""
    installed = {name: found for name in (f'onedl-{package}', package, *ALSO.get(package, ()))
                 if (found := version(name))}
    value = ', '.join(f'{name} {number}' for name, number in installed.items()) or 'not installed'
    if len(installed) > 1:
        return Check(package, value, False, f'two distributions overwrite each other as `{FAMILY[package]}`; pip '
                     f'uninstall {" ".join(installed)}, then pip install onedl-{package}')
    if not installed:
        return Check(package, value, None if package == 'mmsegmentation' else False, f'pip install onedl-{package}')
    if f'onedl-{package}' in installed:
        return Check(package, value, True)
    return Check(package, value, False, 'with torch 2.6 or later the originals cannot resume their own checkpoints, '
                 f'nor train MoCo v3 with numpy 2; pip uninstall {package}, pip install onedl-{package}')


def check_import(module: str, fix: str) -> Check:
    """Whether a module can be imported, with its version."""
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a broken binary can fail with anything
        return Check(module, ' '.join(f'{type(error).__name__}: {error}'.split())[:200], False, fix)
    return Check(module, getattr(found, '__version__', 'there'), True)


def check_devices() -> Check:
    """Accelerators, or the cores of the CPU."""
    import torch
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check('devices', ', '.join(f'{p.name} ({p.total_memory / 2**30:.0f} GiB)' for p in names), True)
    if torch.version.cuda and shutil.which('nvidia-smi'):
        return Check('devices', 'none that PyTorch can use, though there is a driver', False,
                     f'this torch was built for CUDA {torch.version.cuda}; update the driver, or install a torch for '
                     'the driver there is')
    return Check('devices', f'CPU, {len(os.sched_getaffinity(0))} cores')


def check_backends() -> Check:
    """What processes can talk over."""
    import torch
    from torch import distributed
    if not distributed.is_available():
        return Check('distributed', 'not in this torch', False, 'install a torch with torch.distributed')
    have = {'nccl': distributed.is_nccl_available(), 'gloo': distributed.is_gloo_available()}
    ok = have['gloo'] and (have['nccl'] or not torch.cuda.is_available())
    return Check('distributed', ', '.join(name for name, there in have.items() if there), ok,
                 'several GPUs need NCCL, and signals between processes gloo; install an official build of torch')


def check_space(folder: str | Path = '.') -> list[Check]:
    """Room for checkpoints, and for the batches that a loader's processes hand over."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    checks = [Check('disk', f'{free / 2**30:.1f} GiB free at {place}',
                    free > DISK and place.is_dir() and os.access(place, os.W_OK),
                    'a run keeps three checkpoints (ViT-B: 1.5 GB each, with optimizer and teacher); make room, or '
                    'choose another --work-dir that you may write to')]
    if Path('/dev/shm').is_dir():
        shared = shutil.disk_usage('/dev/shm')
        checks.append(Check('shared memory', f'{shared.total / 2**30:.1f} GiB', shared.total >= SHARED_MEMORY,
                            'processes of the loader die with a bus error; docker run --shm-size=8g (or --ipc=host)'))
    return checks


def attempt(name: str, action: Callable[[], str], fix: str) -> Check:
    """Whether an action succeeds; its error is the value."""
    try:
        return Check(name, action(), True)
    except Exception as error:  # whatever it is, the report goes on
        return Check(name, ' '.join(str(error).split()) or type(error).__name__, False, fix)


def check_bfloat16() -> Check:
    """Whether autocast runs in bfloat16 here."""
    import torch

    from mm_graft.precision import has_bfloat16
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Check('bfloat16', 'in hardware' if has_bfloat16(device) else
                 f'this {device} has none in hardware: steps run in float32')


def check_models() -> Check:
    """Whether mmpretrain's models can be imported; of a newer transformers, without its multimodal ones."""
    import mm_graft.registry  # noqa: F401 - leaves them out
    from mm_graft.host.multimodal import too_new
    check = check_import('mmpretrain.models', 'pip check; remove or update what the message names')
    left_out = f", the multimodal ones left out: transformers {too_new()} is too new for them" if too_new() else ""
    return Check('models', f'imported{left_out}' if check.ok else check.value, check.ok, check.fix)


def count_images(folder: str | Path) -> str:
    """Images of a folder that training would use and skip, and unreadable ones in a sample."""
    from mm_graft.commands.start.facts import look_at_folder
    return '; '.join(look_at_folder(folder)[2])


def check_run(path: str, options: dict | None = None) -> list[Check]:
    """Read a config with ``--cfg-options``, and look at its data and schedule as a training would find them."""
    from mm_graft.commands.configs import check_paths, load_config
    try:
        cfg = load_config(path, options)
        check_paths(cfg)
    except Exception as error:  # whatever it is, the report goes on
        return [Check('config', ' '.join(str(error).split()), False, 'correct what the message names')]
    checks = [Check('config', f'{path} is read; its data and checkpoints are there', True)]
    if not cfg.get('train_dataloader'):
        return checks
    from mm_graft.commands import run_examination as run
    checks.append(attempt('warm-up', lambda: run.describe_warmup(cfg), 'see above'))
    try:
        sets = run.build_data_sets(cfg)
    except Exception as error:
        return [*checks, Check('data sets', ' '.join(str(error).split()), False, 'correct what the message names')]
    training = sets['train_dataloader']
    return [*checks, attempt('batches', lambda: run.describe_batches(cfg, len(training)), 'a smaller batch'),
            attempt('classes', lambda: run.describe_classes(sets), 'give both sets the same classes'),
            attempt('images', lambda: run.describe_images(training), 'replace or remove what cannot be read')]


def examine(config: str | None = None, data: str | None = None, folder: str = '.',
            options: dict | None = None) -> list[Check]:
    """All checks; those of a config and of a folder of images where they are given."""
    pair = 'torch and torchvision are built for each other (2.11.0 and 0.26.0); install both from the same index'
    checks = [check_python(), check_import('torch', 'pip install torch==2.11.0 torchvision==0.26.0'),
              check_import('torchvision', pair), check_import('numpy', 'pip install numpy'),
              *(check_family(package) for package in FAMILY)]
    if checks[1].ok:  # torch can be imported
        checks += [check_devices(), check_backends(), check_bfloat16(), check_models()]
    checks += check_space(folder)
    if data:
        checks.append(attempt('data', lambda: count_images(data), 'give the folder above the images'))
    if config:
        checks += check_run(config, options)
    return checks
