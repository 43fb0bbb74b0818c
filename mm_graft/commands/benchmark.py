"""Measure speed: a config's training step on random images, its data pipeline, or all methods in one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import (
    add_overrides,
    at_least_one,
    check_files,
    device,
    target,
    target_folder,
    whole,
)
from mm_graft.commands.configs import check_folders, content_root, load_config

if TYPE_CHECKING:
    from mmengine.config import Config

METHODS = ('MAE', 'MoCo v3', 'ConMIM', 'LocalMIM')


def step_arguments(parser: argparse.ArgumentParser) -> None:
    """Which step, and how often."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--batch', type=at_least_one, metavar='N', help="images a step (default: the config's)")
    parser.add_argument('--img-size', type=at_least_one, metavar='N', help="side of the images (default: the config's)")
    parser.add_argument('--freeze', type=whole, default=0, metavar='K', help='freeze the stem and the first K blocks')
    parser.add_argument('--vs', metavar='OTHER_CONFIG', help='measure this one in turns with the other')
    _add_measuring(parser)
    _add_result(parser)


def loader_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and how many."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--images', type=at_least_one, default=300, metavar='N', help='how many to load')
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument('--folder', type=Path, help="JPEGs to use instead of the config's data")
    instead.add_argument('--synthetic', action='store_true', help='make 500×375 JPEGs and use them instead')
    parser.add_argument('--workers', type=whole, default=0, metavar='N', help='also run a loader with N processes')
    _add_result(parser)


def table_arguments(parser: argparse.ArgumentParser) -> None:
    """Which methods, at which size."""
    parser.add_argument('--out', type=target_folder, required=True, metavar='DIR',
                        help='where speed.json and speed.md go')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS), metavar='METHOD',
                        help=f'of {", ".join(METHODS)}')
    parser.add_argument('--width', choices=('tiny', 'small', 'base'), default='base', help='of the ViT')
    parser.add_argument('--blocks', type=at_least_one, default=12, metavar='N', help='depth of the ViT')
    parser.add_argument('--batch', type=at_least_one, default=128, metavar='N', help='images a step')
    parser.add_argument('--img-size', type=at_least_one, default=224, metavar='N', help='side of the images')
    parser.add_argument('--no-compile', action='store_true', help='leave out the rows with compiled blocks')
    _add_measuring(parser)


def check_step(args: argparse.Namespace) -> dict[str, Config]:
    """The one or two configs, by name."""
    return {name: load_config(name, args.cfg_options) for name in (args.config, args.vs) if name}


def step(args: argparse.Namespace, cfgs: dict[str, Config]) -> None:
    """Measure a training step."""
    _find_benchmarks()
    from benchmarks.measure import measure_steps
    from mm_graft.commands.components import explained
    _quiet()
    with explained(next(iter(cfgs.values()))):
        result = measure_steps(cfgs, args)
    _show(result, args.json)


def check_loader(args: argparse.Namespace) -> Config:
    """The config; the images exist."""
    cfg = load_config(args.config, args.cfg_options)
    if args.folder:
        check_files('folder', str(args.folder))
    elif not args.synthetic:
        check_folders(cfg, 'train_dataloader')
    return cfg


def loader(args: argparse.Namespace, cfg: Config) -> None:
    """Measure a data pipeline."""
    _find_benchmarks()
    from benchmarks.loader import measure_loader
    from mm_graft.commands.components import explained
    _quiet()
    with explained(cfg):
        result = measure_loader(cfg, args.images, args.folder, args.synthetic, args.workers)
    _show(result, args.json)


def check_table(args: argparse.Namespace) -> None:
    """Check that the benchmarks are there."""
    content_root()


def table(args: argparse.Namespace, inputs: None) -> None:
    """Measure all methods."""
    _find_benchmarks()
    from benchmarks.table import run
    _quiet()
    run(args)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--steps', type=at_least_one, default=20, metavar='N', help='measured steps')
    parser.add_argument('--warmup', type=whole, default=5, metavar='N', help='steps before')
    parser.add_argument('--device', type=device, help='where to run (default: a GPU where there is one)')


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', type=target('.json'), metavar='F.json', help='also write the result there')
    add_overrides(parser)


def _find_benchmarks() -> None:
    """Make ``import benchmarks`` work, from the checkout or from a wheel."""
    sys.path.insert(0, str(content_root()))


def _quiet() -> None:
    """No line per parameter."""
    from mmengine.logging import MMLogger
    MMLogger.get_current_instance().setLevel('WARNING')


def _show(result: dict, path: Path | None) -> None:
    """Print a result as a table, a column per config, and write it to ``path`` if given."""
    from prettytable import PrettyTable

    from mm_graft.evaluation.report import write_json
    columns = [_cells(result)]
    if 'vs' in result:
        columns.append(_cells(result['vs']['other']))
    printed = PrettyTable(align='l', header=False)
    for name in dict.fromkeys(name for column in columns for name in column):
        printed.add_row([name, *(column.get(name, '') for column in columns)])
    print(printed)
    if path:
        write_json(path, result)


def _cells(result: dict) -> dict[str, object]:
    """The cells of a column by row name; anything nested deeper is another column's."""
    flat = {}
    for key, value in result.items():
        for name, item in (value if isinstance(value, dict) else {'': value}).items():
            if not isinstance(item, dict):
                flat[f'{key} {name}'.strip()] = f'{item:.5g}' if isinstance(item, float) else item
    return flat


COMMANDS = {
    'step': ('the real training step: preprocessing, forward, backward, optimizer, EMA', step_arguments, check_step,
             step),
    'loader': ('the data pipeline, alone', loader_arguments, check_loader, loader),
    'table': ('all methods: plain host, each change, everything together, with and without frozen blocks',
              table_arguments, check_table, table),
}
