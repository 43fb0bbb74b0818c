"""Print each parameter's depth, stage, learning rate, weight decay, and whether it trains. Builds no data set."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from prettytable import PrettyTable

from mm_graft.analysis.param_table import build_on_meta, parameter_table, summarise
from mm_graft.commands.run_checks import check_optimizer
from mm_graft.commands.running import clean_errors, load_config
from mm_graft.evaluation.report import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--json', type=Path, metavar='F', help='also write one JSON row per parameter')
    parser.add_argument('--all', action='store_true', help='one line per parameter instead of a summary')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    return parser.parse_args()


def ranges(depths: list[int]) -> str:
    return str(depths[0]) if len(depths) == 1 else f'{depths[0]}–{depths[-1]}'


def print_table(table: list[dict], every: bool) -> None:
    if every:
        printed = PrettyTable(['parameter', 'depth', 'stage', 'lr', 'weight decay'], align='l')
        for row in table:
            lr = f'{row["lr"]:.4g}' if row['trained'] else 'not trained'
            printed.add_row([row['name'], row['depth'], row['stage'] or '', lr, row['weight_decay']])
    else:
        printed = PrettyTable(['stage', 'depths', 'lr', 'weight decay', 'tensors'], align='l')
        for stage, depths, lr, decay, count in summarise(table):
            rate = 'not trained' if lr is None else f'{lr:.4g}'
            printed.add_row([stage or '', ranges(depths), rate, '' if decay is None else f'{decay:g}', count])
    print(printed)


def main() -> None:
    args = parse_args()
    with clean_errors():
        cfg = load_config(args.config, args.cfg_options)
        check_optimizer(cfg)
        table = parameter_table(*build_on_meta(cfg))
        print_table(table, args.all)
        if args.json:
            write_json(args.json, table)


if __name__ == '__main__':
    main()
