"""Each program in turns with ours, on one thread: the table of docs/performance.md.

    OMP_NUM_THREADS=1 .venv-peers/bin/python -W ignore -m benchmarks.peers --authors DIR --page docs/performance.md

``make setup-peers`` builds the environment. What is timed is processor time, in turns within one process, so that
other programs on the machine weigh on both alike; no more than two programs are in memory at a time. The rows of a
method go to the page when it is done, and those of methods that ``--methods`` does not name stay.
"""

import argparse
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from benchmarks.loader import make_photos
from benchmarks.page import parts, put
from benchmarks.peers import authors, contest, features, lightly_parts, ours, stable
from benchmarks.peers.contest import Entry, Size

PACKAGES = ('torch', 'timm', 'onedl-mmpretrain', 'lightly', 'stable-pretraining')
BATCH, SMALL, LARGE = 2, 112, 224
SIDES = {'MAE': LARGE, 'MoCo v3': SMALL, 'SimCLR': SMALL, 'ConMIM': LARGE, 'LocalMIM': LARGE, 'extraction': LARGE,
         'kNN': LARGE, 'linear probe': LARGE}


def programs(method: str, size: Size, clones: Path | None) -> Iterator[Entry]:
    """All that take part in a row, ours first, each built when it is asked for."""
    if method in features.FEATURE_ROWS:
        return iter(features.entries(method, size))
    return chain(ours.entries(method, size), authors.entries(method, size, clones),
                 lightly_parts.entries(method, size), stable.entries(method, size))


def sizes(width: str, blocks: int, photos: list[Path]) -> dict[str, Size]:
    """Images and batch of each row; contrastive methods see smaller images and more of them."""
    return {method: Size(side, BATCH * LARGE // side, width, blocks, tuple(photos)) for method, side in SIDES.items()}


def caption(args: argparse.Namespace) -> str:
    """What the table must say of how it was made."""
    versions = ', '.join(f'{name} {version(name)}' for name in PACKAGES)
    clones = ', '.join(f'{name} {commit}' for name, commit in authors.commits(args.authors).items())
    return (f'Encoders {args.width} ({args.blocks} blocks), fp32, one thread, {args.rounds} rounds; {versions}; '
            f"authors' code: {clones or 'none'}.")


def main() -> None:
    """Measure, and write after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--authors', type=Path, metavar='DIR', help='folder of clones: mae, moco-v3, LocalMIM, ConMIM')
    parser.add_argument('--methods', nargs='+', choices=SIDES, default=list(SIDES), metavar='METHOD')
    parser.add_argument('--width', choices=('tiny', 'small', 'base'), default='tiny', help='of the ViT')
    parser.add_argument('--blocks', type=int, default=12, help='of the ViT')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--page', type=Path, help='page that gets the table')
    args = parser.parse_args()
    torch.set_num_threads(1)
    init_default_scope('mmpretrain')
    MMLogger.get_current_instance().setLevel('WARNING')
    page = parts(args.page, 'peers')[1] if args.page else ''
    found = contest.lines_of(page, caption(args), [method for method in SIDES if method not in args.methods])
    with tempfile.TemporaryDirectory() as folder:
        plan = sizes(args.width, args.blocks, make_photos(Path(folder), BATCH * LARGE // SMALL))
        for method in args.methods:
            found[method] = contest.lines(method, contest.beside_ours(
                programs(method, plan[method], args.authors), args.rounds))
            print('\n'.join(found[method]), flush=True)
            if args.page:
                put(args.page, 'peers', contest.table(caption(args), [found.get(each, []) for each in SIDES]))


if __name__ == '__main__':
    main()
