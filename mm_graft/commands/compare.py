"""Evaluations side by side: a table, and with --plot bars and curves."""

import argparse

from mm_graft.commands.arguments import check_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reports."""
    parser.add_argument('runs', nargs='+', help='folders of `mm_graft evaluate --out`')
    parser.add_argument('--plot', help='picture to write')


def check(args: argparse.Namespace) -> None:
    """See that there are reports."""
    check_files('report', *args.runs)


def run(args: argparse.Namespace, inputs: None) -> None:
    """Print the table."""
    from mm_graft.evaluation.compare import compare
    print(compare(args.runs, args.plot))
