"""MAE, the graft and the refiner on Fashion-MNIST, at equal images and at equal FLOPs, seed by seed.

Trains MAE, then on top of it the graft and the refiner, and MAE alone for longer; scores each encoder by kNN, a linear
probe and 1 % few-shot. Trainings and scores that are finished are not repeated, an interrupted one resumes. Results:
OUT/report.json, OUT/table.md, OUT/neighbors.png.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from experiments.fashion_mnist import prepare_fashion_mnist
from experiments.refiner.neighbors import draw, joined, logged
from experiments.refiner.rows import CONFIGS, TITLES, Length, Step, gflops, rows
from experiments.scores import frozen_scores
from experiments.training import last_epoch, run_training, train_command
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json

SCORES = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 % few-shot'}
BATCH = 128


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', choices=list(TITLES), default=list(TITLES))
    parser.add_argument('--epochs', type=int, nargs=3, metavar=('MAE', 'HEADS', 'REFINED'),
                        default=(Length.mae, Length.heads, Length.refined), help='for a quick trial: 2 1 2')
    parser.add_argument('--images', type=int, default=Length.images, help='for training; for a quick trial: 512')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/refiner'))
    return parser.parse_args()


def train(step: Step, length: Length, folder: Path, seed: int, options: Sequence[str] = ()) -> Path:
    """Train to the end, unless that has been done; the last checkpoint."""
    final = folder / f'epoch_{step.epochs}.pth'
    if last_epoch(folder) < step.epochs:
        folder.mkdir(parents=True, exist_ok=True)
        words = [f'train_cfg.max_epochs={step.epochs}', f'param_scheduler.warmup={step.warmup}',
                 f'train_dataloader.dataset.indices={length.images}',
                 f'default_hooks.logger.interval={min(13, length.images // BATCH)}', *step.options, *options]
        run_training(train_command(CONFIGS[step.config], folder, seed, words), folder.with_suffix('.log'),
                     f'{folder.name} {seed}', step.epochs)
    return final


def train_row(name: str, steps: tuple[Step, ...], length: Length, out: Path, seed: int) -> Path:
    """Train what a row needs on top of the seed's MAE; the encoder's checkpoint."""
    mae = checkpoint = train(Step('mae', length.mae), length, out / f'mae_{seed}', seed)
    for step in steps:
        start = checkpoint if step.config == 'refined' else mae  # stage i keeps MAE's encoder beside its heads
        options = [f'default_hooks.init.checkpoint={start}'] if step.config != 'mae' else []
        checkpoint = train(step, length, out / f'{name}_{step.config}_{seed}', seed, options)
    return checkpoint


def score(checkpoint: Path, out: Path, seed: int) -> dict:
    """Accuracies in percent on frozen features, class token after the final norm."""
    cfg = Config.fromfile(CONFIGS['graft'])  # every row has its encoder
    found = frozen_scores(cfg, checkpoint, out / 'features', seed)
    return {score: found[score] for score in SCORES}


def cost(steps: tuple[Step, ...], length: Length, out: Path) -> float:
    """10⁹ operations an image of everything that leads to an encoder."""
    below = 0 if steps and steps[0].config == 'mae' else length.mae * gflops('mae', out)
    return below + sum(step.epochs * gflops(step.config, out) for step in steps)


def run_seed(out: Path, length: Length, seed: int, wanted: Sequence[str]) -> None:
    """Train and score the rows of a seed that are missing."""
    for name, steps in rows(length, out).items():
        path = out / f'row_{name}_{seed}.json'
        if name in wanted and not path.is_file():
            checkpoint = train_row(name, steps, length, out, seed)
            write_json(path, {'method': name, 'seed': seed, 'gflops_an_image': cost(steps, length, out),
                              'epochs': [[step.config, step.epochs] for step in steps],
                              **score(checkpoint, out, seed)})


def finished(out: Path) -> list[dict]:
    """All scores that are there, row by row, seed by seed."""
    return [json.loads(path.read_text()) for name in TITLES for path in sorted(out.glob(f'row_{name}_*.json'))
            if path.stem.removeprefix(f'row_{name}_').isdigit()]


def table(found: Sequence[dict]) -> str:
    """Markdown table: mean ± standard deviation over the seeds."""
    lines = [f'| method | seeds | GFLOPs an image | {" | ".join(SCORES.values())} |', '|---' * (3 + len(SCORES)) + '|']
    for name, title in TITLES.items():
        mine = [row for row in found if row['method'] == name]
        if mine:
            cells = [mean_and_spread([row[key] for row in mine]) for key in SCORES]
            lines.append(f'| {title} | {len(mine)} | {mine[0]["gflops_an_image"]:.2f} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def mean_and_spread(values: Sequence[float]) -> str:
    """As text."""
    return f'{fmean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def keep_length(out: Path, length: Length) -> None:
    """Note epochs and images beside the results, which are of one length only.

    Raises:
        ValueError: the folder holds results of another.
    """
    note, mine = out / 'length.json', asdict(length)
    known = json.loads(note.read_text()) if note.is_file() else mine
    if known != mine:
        raise ValueError(f'{out} holds results of {known}; give {mine} an --out of its own')
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, mine)


def write_report(out: Path, seeds: Sequence[int]) -> None:
    """Table, scores, and the share of neighbors of the same class over time."""
    curves = {seed: joined([logged(out / f'refined_{stage}_{seed}', BATCH) for stage in ('heads', 'refined')])
              for seed in seeds}
    curves = {seed: by_block for seed, by_block in curves.items() if by_block}
    write_json(out / 'report.json', {
        'data': 'Fashion-MNIST, 10,000 training and 10,000 test images for scoring', 'torch': torch.__version__,
        'rows': finished(out), 'neighbors_of_the_same_class': curves})
    (out / 'table.md').write_text(table(finished(out)))
    if curves:
        draw(curves).savefig(out / 'neighbors.png', dpi=150)


def main() -> None:
    args = parse_args()
    with guarded():
        length = Length(*args.epochs, args.images)
        keep_length(args.out, length)
        prepare_fashion_mnist('data/fashion_mnist')
        MMLogger.get_current_instance().setLevel('ERROR')
        for seed in args.seeds:
            run_seed(args.out, length, seed, args.rows)
            write_report(args.out, args.seeds)
        print((args.out / 'table.md').read_text())


if __name__ == '__main__':
    main()
