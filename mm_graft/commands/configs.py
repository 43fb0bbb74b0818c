"""Reading configs by path or name with overrides, and checking the files that they refer to.

A name that leads nowhere is an error before MMEngine is imported.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mm_graft.commands import overrides
from mm_graft.commands.arguments import check_files
from mm_graft.nested import leaves, nodes
from mm_graft.spelling import did_you_mean

if TYPE_CHECKING:
    import argparse

    from mmengine.config import Config

SUFFIXES = '.py', '.json'
CONTENT = ('configs', 'tools', 'benchmarks')
CHECKPOINT_KEY = re.compile(
    r'(^|\.)load_from$|^(default|custom)_hooks\.\w+\.checkpoint$|\.init_cfg(\.\d+)?\.checkpoint$')


class AnalyzedModel(NamedTuple):
    """A checkpoint to analyze, the config that built it, and its name in the figure."""

    label: str
    cfg: Config
    checkpoint: str


def content_root() -> Path:
    """The folder with ``configs/`` and ``benchmarks/``: the checkout, or ``mm_graft/.mim`` of a wheel."""
    package = Path(__file__).resolve().parents[1]
    for root in (package.parent, package / '.mim'):
        if all((root / name).is_dir() for name in CONTENT):
            return root
    raise FileNotFoundError(f'{package} has no {", ".join(CONTENT)} beside it or in .mim; install mm_graft again')


def find_config(name: str) -> Path:
    """A config file by its path, or by its name below the configs of mm_graft (``graft/vit-b_mae2mocov3``)."""
    root = content_root()
    for folder in (Path(), root / 'configs', root):
        for path in (folder / name, folder / f'{name}.py'):
            if path.suffix in ('.yaml', '.yml'):
                raise ValueError(f'config {name} is YAML, which can call functions unseen when MMEngine reads it; '
                                 'write it as .py or .json')
            if path.is_file() and path.suffix not in SUFFIXES:
                raise ValueError(f'{name} does not end in {" or ".join(SUFFIXES)}, so it is no config; a run writes '
                                 'its own beside its checkpoints')
            if path.is_file():
                return path
    names = [str(path.relative_to(root / 'configs').with_suffix('')) for path in sorted(root.glob('configs/*/**/*.py'))
             if '_base_' not in path.parts]
    hint = did_you_mean([name.removeprefix('configs/').removesuffix('.py')], names)
    raise FileNotFoundError(f'config {name} does not exist' + (
        hint or f'; the configs of mm_graft are in {root / "configs"}'))


def load_config(name: str, options: dict | None = None, notes: list[str] | None = None) -> Config:
    """Read a config, found as by :func:`find_config`, with ``--cfg-options``; ``notes`` gets a line about each."""
    path = find_config(name)
    cfg = overrides.read(path, {})
    if options:
        cfg, lines = overrides.apply(cfg, path, options)
        (notes if notes is not None else []).extend(lines)
    name_classes(cfg)
    return cfg


def name_classes(cfg: Config) -> None:
    """Give the classes in a config of MMEngine's new style their registered names, by which all is looked up here."""
    for _, part in nodes(cfg):
        if isinstance(part, dict) and callable(part.get('type')):
            from mm_graft.registry import name_of
            part['type'] = name_of(part['type']) or part['type']


def config_for(checkpoint: str, name: str | None = None, options: dict | None = None) -> Config:
    """The config for a checkpoint: the named one, else the one recorded in or inferred from the file."""
    if name is not None:
        cfg = load_config(name, options)
        check_files('checkpoint', checkpoint)
        return cfg
    check_files('checkpoint', checkpoint)
    from mm_graft.pretrained import config_of
    cfg = config_of(checkpoint)
    return overrides.apply(cfg, None, options)[0] if options else cfg


def run_name(cfg: Config, checkpoint: str) -> str:
    """Name of a run, from its config file, its recorded work dir, or the checkpoint."""
    return Path(cfg.filename or cfg.get('work_dir') or checkpoint).stem


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that looks at a checkpoint."""
    parser.add_argument('config', nargs='?', help='the config to use instead of the one that the checkpoint records')
    parser.add_argument('checkpoint', help='a checkpoint of any layout that is known here')


def set_init(cfg: Config, checkpoint: str) -> None:
    """Set the initial weights: a checkpoint, or random for ``'none'``; the branch stays the config's."""
    from mmengine.config import ConfigDict
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.init = ConfigDict({'type': 'mm_graft.LoadBackboneHook', **hooks.get('init', {})})
    hooks.init.checkpoint = None if checkpoint == 'none' else checkpoint


def check_paths(cfg: Config) -> None:
    """Check that the data and checkpoints that a training reads exist, before anything is built."""
    check_folders(cfg, 'train_dataloader', 'val_dataloader')
    for key, value in leaves(cfg):
        if CHECKPOINT_KEY.search(key) and _is_path(value) and not Path(value).exists():
            raise FileNotFoundError(
                f'checkpoint {value} ({key}) does not exist; put it there, or give its path with '
                f'--cfg-options {key}=/path/to/file.pth')


def check_folders(cfg: Config, *loaders: str) -> None:
    """Check that the folders exist from which these loaders read."""
    for key, value in (leaf for name in loaders for leaf in leaves(cfg.get(name), name)):
        if key.endswith('.data_root') and _is_path(value) and not Path(value).is_dir():
            raise FileNotFoundError(
                f'data folder {value} ({key}) does not exist; put the data there, or give its path with '
                f'--cfg-options {key}=/path/to/data')


def check_test_data(cfg: Config, source: str) -> None:
    """Check that a config has test data, and that they exist."""
    if not cfg.get('test_dataloader'):
        raise ValueError(f'{source} has no test_dataloader; a pre-training config has nothing to test, use `mm_graft '
                         'evaluate` for its checkpoints')
    check_folders(cfg, 'test_dataloader')


def _is_path(value: object) -> bool:
    return isinstance(value, str) and bool(value) and '://' not in value
