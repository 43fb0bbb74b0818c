"""Draw a config's learning rates, one line a stage or depth, and its freezing events. Builds no data set."""

import argparse
from pathlib import Path

from mmengine.config import DictAction

from mm_graft.analysis.schedule_plot import ITERS_PER_EPOCH, draw, simulate
from mm_graft.commands.running import clean_errors, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, required=True, metavar='F.png', help='picture to write (png, pdf, svg)')
    parser.add_argument('--iters-per-epoch', type=int, default=ITERS_PER_EPOCH, metavar='N',
                        help='images / batch size; the data set is not built, so it is taken as %(default)s by default')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with clean_errors():
        if args.iters_per_epoch < 1:
            raise ValueError(f'--iters-per-epoch {args.iters_per_epoch} must be at least 1')
        run = simulate(load_config(args.config, args.cfg_options), args.iters_per_epoch)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        draw(run, Path(args.config).stem).savefig(args.out, dpi=150)
    print(f'{args.out}: {len(run.rates)} rates over {run.length.total} iterations'
          + (f' ({run.length.epoch} an epoch, assumed)' if run.length.epoch else ''))
    for depth, time in sorted(run.frozen_at.items()):
        print(f'depth {depth:2d} freezes at {run.length.unit} {time:.2f}')


if __name__ == '__main__':
    main()
