#!/usr/bin/env python
"""Evaluations side by side: a table, and with --plot bars and curves."""

import argparse

from mm_graft.evaluation.compare import compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='folders of `tools/evaluate.py --out`')
    parser.add_argument('--plot', help='picture to write')
    args = parser.parse_args()
    try:
        print(compare(args.runs, args.plot))
    except ValueError as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
