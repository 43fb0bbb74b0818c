"""Fine-tune encoders with more and more frozen blocks, and draw the curves (grafting's and ConMIM's Fig. 5).

One run after another; finished runs are not repeated and an interrupted one resumes.
"""

import argparse
from pathlib import Path

from experiments import sweep
from experiments.partial_finetuning.curve import draw_curve
from mm_graft.analysis.param_table import build_on_meta
from mm_graft.commands.arguments import check_files
from mm_graft.commands.configs import load_config
from mm_graft.commands.running import guarded
from mm_graft.depth import depth_map
from mm_graft.evaluation.report import write_json

FROZEN = [0, 2, 4, 6, 8, 10, 12]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='that fine-tunes, such as configs/eval/finetune_vit-b.py')
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT', help='of any layout that is known, a line each')
    parser.add_argument('--names', nargs='+', help='of the checkpoints (default: those of their folders or files)')
    parser.add_argument('--frozen', type=int, nargs='+', default=FROZEN, help='numbers of frozen blocks, from the '
                        'input; the stem is frozen with the first (default: %(default)s)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/partial_<name of the config>')
    sweep.add_arguments(parser)
    args = parser.parse_args()
    args.work_dir = args.work_dir or Path(f'work_dirs/partial_{Path(args.config).stem}')
    return args


def check(args: argparse.Namespace) -> dict[str, str]:
    """The checkpoints by name.

    Raises:
        ValueError: two of them have the same name, or there are not as many names, or the encoder has fewer blocks.
        FileNotFoundError: there is no such checkpoint.
    """
    check_files('checkpoint', *args.checkpoints)
    paths = [Path(checkpoint) for checkpoint in args.checkpoints]
    stems = [path.parent.name if path.stem.startswith(('epoch_', 'iter_')) else path.stem for path in paths]
    names = args.names or stems
    if len(names) != len(paths) or len(set(names)) != len(paths):
        raise ValueError(f'{len(paths)} checkpoints need as many different names, not {names}; give --names')
    blocks = depth_map(build_on_meta(load_config(args.config, args.cfg_options))[0]).num_blocks
    if wrong := [count for count in args.frozen if not 0 <= count <= blocks]:
        raise ValueError(f'--frozen {wrong}: the encoder of {args.config} has {blocks} blocks; give numbers from 0 '
                         f'to {blocks}')
    return dict(zip(names, args.checkpoints))


def command(args: argparse.Namespace, checkpoint: str, frozen: int, folder: Path) -> list[str]:
    """What fine-tunes above some frozen blocks."""
    freezing = [f'model.backbone.frozen_stages={frozen}'] if frozen else []
    return sweep.train_command(args, args.config, folder, [*sweep.overrides_of(args.cfg_options), *freezing],
                               checkpoint)


def main() -> None:
    args = parse_args()
    with guarded():
        checkpoints = check(args)
        epochs = sweep.epochs_of(args.config, args.cfg_options)
        folders = {(name, frozen): args.work_dir / name / f'frozen_{frozen}'
                   for frozen in args.frozen for name in checkpoints}
        left = {key: folder for key, folder in folders.items() if sweep.final_top1(folder, epochs) is None}
        commands = [command(args, checkpoints[name], frozen, folder) for (name, frozen), folder in left.items()]
        if args.dry_run:
            sweep.show(commands)
            return
        for each, folder in zip(commands, left.values()):
            sweep.run(each, folder)
        scores = {name: {frozen: sweep.final_top1(folders[name, frozen], epochs) for frozen in args.frozen}
                  for name in checkpoints}
        write_json(args.work_dir / 'curve.json', scores)
        draw_curve(scores).savefig(args.work_dir / 'curve.png', dpi=150)
        print(f'{args.work_dir / "curve"}.json and .png: {", ".join(checkpoints)}')


if __name__ == '__main__':
    main()
