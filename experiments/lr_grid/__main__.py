"""Train a graft with every combination of stage learning rates, evaluate each, draw heat maps (the paper's Fig. 4).

One run after another; finished runs are not repeated and an interrupted one resumes. The same folder takes further
protocols, and fine-tuning, later.
"""

import argparse
from pathlib import Path

from experiments import sweep
from experiments.lr_grid.grid import Point, draw_grid, grid_points, point_name
from experiments.training import last_epoch
from mm_graft.commands.configs import load_config
from mm_graft.commands.evaluate import PROTOCOLS
from mm_graft.commands.running import guarded

FINETUNE = 'finetune'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='with `paramwise_cfg.stage_lr_mult` of three stages')
    parser.add_argument('--multipliers', type=float, nargs='+', default=[0.01, 0.1, 1.0],
                        help='of the learning rate (default: the paper\'s, for a base learning rate of 1.5e-4)')
    parser.add_argument('--panels', type=float, nargs='+', metavar='MULTIPLIER',
                        help='of the third stage to run in this call, to share the grid among nodes (default: all)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/grid_<name of the config>')
    parser.add_argument('--protocols', nargs='*', choices=PROTOCOLS, help='of mm_graft evaluate (default: linear, or '
                        'none with --finetune)')
    parser.add_argument('--finetune', metavar='CONFIG', help='fine-tune each run by this config too, such as '
                        'configs/eval/finetune_vit-b.py')
    sweep.add_arguments(parser)
    args = parser.parse_args()
    if args.protocols is None:
        args.protocols = [] if args.finetune else ['linear']
    args.work_dir = args.work_dir or Path(f'work_dirs/grid_{Path(args.config).stem}')
    return args


def check(args: argparse.Namespace) -> list[Point]:
    """The points that this call is about; ``args`` gets the lengths of the trainings.

    Raises:
        ValueError: the config has other than three stages, or a panel is no multiplier.
    """
    stages = load_config(args.config).optim_wrapper.get('paramwise_cfg', {}).get('stage_lr_mult', [1.0])
    if len(stages) != 3:
        raise ValueError(f'{args.config} has {len(stages)} stages (`stage_lr_mult`), the grid needs three')
    if unknown := set(args.panels or ()) - set(args.multipliers):
        raise ValueError(f'--panels {sorted(unknown)} are none of the multipliers {args.multipliers}')
    args.epochs = sweep.epochs_of(args.config, args.cfg_options)
    args.tuned_epochs = sweep.epochs_of(args.finetune) if args.finetune else None
    return [point for point in grid_points(args.multipliers) if point[2] in (args.panels or args.multipliers)]


def scores_at(args: argparse.Namespace, folder: Path) -> dict[str, float | None]:
    """Top-1 of a point by each way of scoring, None where it is missing."""
    scores = {name: sweep.reported_top1(folder / name, name) for name in args.protocols}
    if args.finetune:
        scores[FINETUNE] = sweep.final_top1(folder / FINETUNE, args.tuned_epochs)
    return scores


def commands(args: argparse.Namespace, point: Point, folder: Path) -> list[list[str]]:
    """What is left to do at a point: to train it, and to score it in each way."""
    left = [name for name, score in scores_at(args, folder).items() if score is None]
    rates = f'optim_wrapper.paramwise_cfg.stage_lr_mult=[{",".join(f"{value:g}" for value in point)}]'
    train = sweep.train_command(args, args.config, folder, [*sweep.overrides_of(args.cfg_options), rates])
    scoring = [sweep.train_command(args, args.finetune, folder / name, [], sweep.CHECKPOINT) if name == FINETUNE
               else sweep.evaluate_command(args, args.config, name, folder / name) for name in left]
    return [*([train] if left and last_epoch(folder) < args.epochs else []), *scoring]


def main() -> None:
    args = parse_args()
    with guarded():
        points = check(args)
        for point in points:
            folder = args.work_dir / point_name(point)
            left = commands(args, point, folder)
            if args.dry_run:
                sweep.show(left)
            else:
                for command in left:
                    sweep.run(command, folder)
        if args.dry_run:
            return
        scores = {point: scores_at(args, args.work_dir / point_name(point)) for point in grid_points(args.multipliers)}
        for name in scores[points[0]]:
            known = {point: found[name] for point, found in scores.items() if found[name] is not None}
            draw_grid(known, args.multipliers, name).savefig(args.work_dir / f'{name}.png', dpi=150)
            print(f'{args.work_dir / name}.png: {len(known)} of {len(scores)} runs')


if __name__ == '__main__':
    main()
