"""Train a graft with every combination of stage learning rates, evaluate each, draw heat maps (the paper's Fig. 4).

One run after another; finished runs are not repeated and an interrupted one resumes.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from experiments.lr_grid.grid import Point, draw_grid, grid_points, point_name, read_scores
from experiments.training import ROOT
from mm_graft.commands.configs import load_config
from mm_graft.commands.running import guarded

TOOLS = ROOT / 'tools'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='with `paramwise_cfg.stage_lr_mult` of three stages')
    parser.add_argument('--multipliers', type=float, nargs='+', default=[0.01, 0.1, 1.0],
                        help='of the learning rate (default: the paper\'s, for a base learning rate of 1.5e-4)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/grid_<name of the config>')
    parser.add_argument('--protocols', nargs='+', default=['linear'], help='of mm_graft evaluate')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='overrides of every run, key=value')
    parser.add_argument('--gpus', type=int, default=1, help='processes of every training on this node')
    parser.add_argument('--auto-scale-lr', action='store_true', help="scale the rate with the batch, which is smaller "
                        "than the config's on fewer devices")
    parser.add_argument('--dry-run', action='store_true', help='print the commands that are left to do')
    return parser.parse_args()


def commands(args: argparse.Namespace, point: Point, folder: Path) -> list[list[str]]:
    """What trains and evaluates a point; the checkpoint is only known after the training."""
    rates = f'optim_wrapper.paramwise_cfg.stage_lr_mult=[{",".join(f"{value:g}" for value in point)}]'
    program = [sys.executable, str(TOOLS / 'train.py'), args.config]
    if args.gpus > 1:
        program = ['env', f'PYTHON={sys.executable}', 'bash', str(TOOLS / 'dist_train.sh'), args.config, str(args.gpus)]
    train = [*program, *(['--auto-scale-lr'] if args.auto_scale_lr else []), '--work-dir', str(folder), '--resume',
             '--cfg-options', *args.cfg_options, rates]
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    evaluate = [sys.executable, str(TOOLS / 'evaluate.py'), args.config, 'CHECKPOINT', '--protocols', *args.protocols,
                '--out', str(folder), *options]
    return [train, evaluate]


def run_point(args: argparse.Namespace, point: Point, folder: Path) -> None:
    train, evaluate = commands(args, point, folder)
    subprocess.run(train, check=True)
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    subprocess.run([checkpoint if part == 'CHECKPOINT' else part for part in evaluate], check=True)


def main() -> None:
    args = parse_args()
    with guarded():
        stages = load_config(args.config).optim_wrapper.get('paramwise_cfg', {}).get('stage_lr_mult', [1.0])
        if len(stages) != 3:
            raise ValueError(f'{args.config} has {len(stages)} stages (`stage_lr_mult`), the grid needs three')
        points = grid_points(args.multipliers)
        args.work_dir = args.work_dir or Path(f'work_dirs/grid_{Path(args.config).stem}')
        left = [point for point in points if point not in read_scores(args.work_dir, points)]
        if args.dry_run:
            for point in left:
                for command in commands(args, point, args.work_dir / point_name(point)):
                    print(shlex.join(command))
            return
    with guarded():
        for point in left:
            run_point(args, point, args.work_dir / point_name(point))
    scores = read_scores(args.work_dir, points)
    for protocol in args.protocols:
        known = {point: result[protocol] for point, result in scores.items() if protocol in result}
        with guarded():
            draw_grid(known, args.multipliers, protocol).savefig(args.work_dir / f'{protocol}.png', dpi=150)
        print(f'{args.work_dir / protocol}.png: {len(known)} of {len(points)} runs')


if __name__ == '__main__':
    main()
