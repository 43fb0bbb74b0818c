"""Inspect a training before it runs: parameters and learning rates, the schedule, and the machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import PICTURES, add_overrides, at_least_one, positive, target
from mm_graft.commands.configs import load_config

if TYPE_CHECKING:
    from mmengine.config import Config
    from prettytable import PrettyTable

ITERS_PER_EPOCH = 50  # shapes hardly depend on it; it stands in for the data set that is not built
MARKS = {True: 'ok', False: 'WRONG', None: ''}


def params_arguments(parser: argparse.ArgumentParser) -> None:
    """Which config, and how much of it."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--json', type=target('.json'), metavar='F.json', help='also write one JSON row per parameter')
    parser.add_argument('--all', action='store_true', help='one line per parameter instead of a summary')
    add_overrides(parser)


def check(args: argparse.Namespace) -> Config:
    """The config."""
    return load_config(args.config, args.cfg_options)


def params(args: argparse.Namespace, cfg: Config) -> None:
    """Print the table."""
    from mm_graft.analysis.param_table import build_on_meta, parameter_table
    from mm_graft.commands.components import check_needed, check_options, check_types, explained
    from mm_graft.evaluation.report import write_json
    check_needed(cfg, ('model', 'optim_wrapper'))
    check_types(cfg)
    with explained(cfg):
        table = parameter_table(*build_on_meta(cfg))
    check_options(cfg)
    print(_every_parameter(table) if args.all else _summary(table))
    if args.json:
        write_json(args.json, table)


def _every_parameter(table: list[dict]) -> PrettyTable:
    from prettytable import PrettyTable
    printed = PrettyTable(['parameter', 'depth', 'stage', 'lr', 'weight decay'], align='l')
    for row in table:
        lr = f'{row["lr"]:.4g}' if row['trained'] else 'not trained'
        printed.add_row([row['name'], row['depth'], row['stage'] or '', lr, row['weight_decay']])
    return printed


def _summary(table: list[dict]) -> PrettyTable:
    from prettytable import PrettyTable

    from mm_graft.analysis.param_table import summarise
    printed = PrettyTable(['stage', 'depths', 'lr', 'weight decay', 'tensors'], align='l')
    for stage, depths, lr, decay, count in summarise(table):
        rate = 'not trained' if lr is None else f'{lr:.4g}'
        ends = str(depths[0]) if len(depths) == 1 else f'{depths[0]}–{depths[-1]}'
        printed.add_row([stage or '', ends, rate, '' if decay is None else f'{decay:g}', count])
    return printed


def schedule_arguments(parser: argparse.ArgumentParser) -> None:
    """Which config, to which picture."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=target(*PICTURES), required=True, metavar='F.png',
                        help='picture to write (png, pdf, svg, jpg)')
    parser.add_argument('--iters-per-epoch', type=at_least_one, default=ITERS_PER_EPOCH, metavar='N',
                        help='images / batch size; the data set is not built, so it is taken as %(default)s by default')
    parser.add_argument('--seconds-per-step', type=positive, metavar='S', help='of the unfrozen run, as measured by '
                        '`mm_graft benchmark step`; the expected time of the run is printed')
    add_overrides(parser)


def schedule(args: argparse.Namespace, cfg: Config) -> None:
    """Draw, and print when depths freeze."""
    from mm_graft.analysis.schedule_plot import draw, simulate
    from mm_graft.commands.components import check_needed, check_types, explained
    from mm_graft.engine.freezing.freezeout_savings import run_cost
    from mm_graft.evaluation.report import save_figure
    check_needed(cfg, ('model', 'optim_wrapper'))
    check_types(cfg)
    with explained(cfg):
        simulated = simulate(cfg, args.iters_per_epoch)
    save_figure(draw(simulated, Path(cfg.filename).stem), args.out, dpi=150)
    print(f'{args.out}: {len(simulated.rates)} rates over {simulated.length.total} iterations'
          + (f' ({simulated.length.epoch} an epoch, assumed)' if simulated.length.epoch else ''))
    for depth, time in sorted(simulated.frozen_at.items()):
        print(f'depth {depth:2d} freezes at {simulated.length.unit} {time:.2f}')
    length = simulated.length
    flops, trained = run_cost(simulated.frozen_at, simulated.num_blocks or 1, length.time(length.total))
    if simulated.frozen_at:
        print(f'the whole run: {flops:.1%} of the FLOPs of the encoder without freezing; {trained:.1%} of the '
              'activations kept and of the gradients exchanged, on average')
    if args.seconds_per_step:
        hours = length.total * args.seconds_per_step / 3600
        print(f'expected: {hours * flops:.2f} hours in place of {hours:.2f}, if time goes as FLOPs do')


def doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at besides the machine."""
    parser.add_argument('config', nargs='?', help='a config whose data and checkpoints to look for')
    parser.add_argument('--data', help='a folder of images')
    parser.add_argument('--work-dir', default='.', help='where checkpoints will be written')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    add_overrides(parser)


def check_nothing(args: argparse.Namespace) -> None:
    """Problems go into the doctor's report and do not end it."""


def doctor(args: argparse.Namespace, inputs: None) -> None:
    """Print the report; exit status 1 if anything is wrong."""
    from mm_graft.commands.environment import examine
    checks = examine(args.config, args.data, args.work_dir, args.cfg_options)
    wrong = [check for check in checks if check.ok is False]
    if args.json:
        print(json.dumps({'ok': not wrong, 'checks': [asdict(check) for check in checks]}, indent=1))
    else:
        for check in checks:
            print(f'{MARKS[check.ok]:5} {check.name:15} {check.value}')
        for check in wrong:
            print(f'\n{check.name}: {check.fix}')
    sys.exit(bool(wrong))


COMMANDS = {
    'params': ("each parameter's depth, stage, learning rate and weight decay, and whether it trains; builds no data "
               'set', params_arguments, check, params),
    'schedule': ('learning rates of a config, one line a stage or depth, and its freezing events, as a picture; builds '
                 'no data set', schedule_arguments, check, schedule),
    'doctor': ('the environment: versions, packages, devices, communication, space, data, config; says what to fix',
               doctor_arguments, check_nothing, doctor),
}
