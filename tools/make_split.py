#!/usr/bin/env python
"""Few-shot lists of any data set: class-balanced and seeded, or a public list checked against the data."""

import argparse
from pathlib import Path

from mm_graft.commands.running import clean_errors, load_config
from mm_graft.evaluation.make_split import make_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='a config (its training set is used), or a folder with one folder a class')
    parser.add_argument('out', help='the list: `path label` lines, readable as `ann_file`')
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument('--share', type=float, help='share of each class: 0.01 or 0.1')
    how.add_argument('--per-class', type=int, help='images of each class')
    how.add_argument('--from-list', help='a public list of file names, such as SimCLR\'s')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with clean_errors():
        source = Path(args.source) if Path(args.source).is_dir() else load_config(args.source)
        summary = make_split(source, args.out, args.share, args.per_class, args.from_list, args.seed)
    print(f'{summary["images"]} images of {summary["classes"]} classes, sha256 {summary["sha256"]} → {args.out}')


if __name__ == '__main__':
    main()
