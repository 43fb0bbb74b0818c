"""Train an encoder on a folder of images: looks, plans, trains, and ends with a report; no config needed."""

from __future__ import annotations

import argparse
from pathlib import Path

from mm_graft.commands.arguments import check_files, positive, target_folder, whole
from mm_graft.commands.labeled import labeled_folders
from mm_graft.commands.start.speed import PARTS
from mm_graft.commands.trackers import add_trackers
from mm_graft.files import check_target_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what may be known beside it."""
    parser.add_argument('images', help='folder with images, in any depth of sub-folders, or a text file with the path '
                        'of an image a line')
    parser.add_argument('--from', dest='checkpoint', metavar='CHECKPOINT', help='continue from these weights: a file '
                        "or a folder (Hugging Face's, timm's, OpenCLIP's) of any layout that is known here, or "
                        'timm/NAME, which is fetched')
    parser.add_argument('--labels', metavar='FOLDER', help='images of known classes, a folder each, or a folder with '
                        '`train` and `val` in it: adds accuracies before and after, and a map of the classes')
    parser.add_argument('--val', metavar='FOLDER', help='further images of the same classes, to score on')
    parser.add_argument('--minutes', type=positive, help='time for training (default: two minutes on a CPU, no limit '
                        'on a GPU)')
    parser.add_argument('--out', type=target_folder, help='folder for configs, checkpoints and the report (default: '
                        'work_dirs/start_<name of the folder>)')
    parser.add_argument('--device', choices=('cuda', 'cpu'), help='where it is trained (default: a GPU where there is '
                        'one)')
    parser.add_argument('--without', nargs='+', default=[], choices=PARTS, help='parts of the fast path on a GPU to '
                        'leave out: views by OpenCV or in batches, the class token alone in the last block, compiled '
                        'blocks, fused AdamW')
    add_trackers(parser)
    parser.add_argument('--seed', type=whole, default=0, help='of weights, order and views')
    parser.add_argument('--dry-run', action='store_true', help='print the plan, write its configs, and stop')


def check(args: argparse.Namespace) -> Path:
    """The folder for all results; the inputs exist."""
    check_files('folder or list', args.images)
    if args.labels:
        labeled_folders(args.labels, args.val)
    elif args.val:
        raise ValueError(f'--val {args.val} needs images to learn from; give --labels')
    if args.checkpoint and not args.checkpoint.startswith('timm/'):
        check_files('checkpoint', args.checkpoint)
    images = Path(args.images).resolve()
    out = args.out or Path('work_dirs') / f'start_{images.stem if images.is_file() else images.name}'
    check_target_folder(out)
    return out


def run(args: argparse.Namespace, out: Path) -> None:
    """Look, plan, train, show."""
    from mm_graft.commands.start.session import start
    start(args, out)
