"""Evaluations side by side: a table, and with --plot a picture; with --kept gain against forgetting."""

import argparse

from mm_graft.commands.arguments import PICTURES, check_files, target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The reports."""
    parser.add_argument('runs', nargs='+', help='folders of `mm_graft evaluate --out`')
    parser.add_argument('--kept', nargs='+', metavar='RUN', help='the same encoders on the images that they should not '
                        'forget, in the same order; the first of both lists are the weights of the start')
    parser.add_argument('--plot', type=target(*PICTURES), help='picture to write (png, pdf, svg, jpg)')


def check(args: argparse.Namespace) -> None:
    """Check that there are reports."""
    check_files('report', *args.runs, *(args.kept or []))


def run(args: argparse.Namespace, inputs: None) -> None:
    """Print the table."""
    if args.kept:
        from mm_graft.evaluation.kept import compare_kept
        print(compare_kept(args.runs, args.kept, args.plot))
        return
    from mm_graft.evaluation.report import compare
    print(compare(args.runs, args.plot))
