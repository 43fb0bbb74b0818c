"""Few-shot lists of any data set: class-balanced and seeded, or a public list checked against the data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import at_least_one, check_files, share, target, whole
from mm_graft.commands.configs import load_config

if TYPE_CHECKING:
    from mmengine.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, and how many of them."""
    parser.add_argument('source', help='a config (its training set is used), or a folder with one folder a class')
    parser.add_argument('out', type=target(), help='the list: `path label` lines, readable as `ann_file`')
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument('--share', type=share, help='share of each class: 0.01 or 0.1')
    how.add_argument('--per-class', type=at_least_one, help='images of each class')
    how.add_argument('--from-list', help="a public list of file names, such as SimCLR's")
    parser.add_argument('--seed', type=whole, default=0, help='of the draw, if there is one')


def check(args: argparse.Namespace) -> Path | Config:
    """The folder, or the config."""
    check_files('list', *filter(None, [args.from_list]))
    return Path(args.source) if Path(args.source).is_dir() else load_config(args.source)


def run(args: argparse.Namespace, source: Path | Config) -> None:
    """Write the list."""
    from mm_graft.evaluation.splits import make_split
    summary = make_split(source, args.out, args.share, args.per_class, args.from_list, args.seed)
    print(f'{summary["images"]} images of {summary["classes"]} classes, sha256 {summary["sha256"]} → {args.out}')
