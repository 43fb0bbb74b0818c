#!/usr/bin/env python
"""Evaluations side by side: a table, and with --plot bars and curves."""

import argparse

from mm_graft.commands.running import clean_errors
from mm_graft.evaluation.compare import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='folders of `tools/evaluate.py --out`')
    parser.add_argument('--plot', help='picture to write')
    args = parser.parse_args()
    with clean_errors():
        print(compare(args.runs, args.plot))


if __name__ == '__main__':
    main()
