"""The methods on Fashion-MNIST, at equal images and at equal FLOPs, seed by seed.

Trains MAE, then on top of it the graft and the refiner, and the others from nothing; scores each encoder by kNN, a
linear probe and 1 % of the labels (ten images a class), and fine-tunes it on a hundred images a class. What is finished
is not repeated, what was interrupted resumes.
Results: OUT/results.json; python -m experiments.methods.report makes the page's tables and figures of it.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from experiments.fashion_mnist import prepare_fashion_mnist
from experiments.finetuning import finetune_accuracy
from experiments.methods.figures import POOLS, SCORES
from experiments.methods.report import write_results
from experiments.methods.rows import CONFIGS, TITLES, Length, Row, put_encoder, rows
from experiments.methods.runs import BATCH, train_row
from experiments.scores import frozen_scores
from experiments.wsp.rows import finetune_recipe
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', choices=list(TITLES), default=list(TITLES))
    parser.add_argument('--epochs', type=int, nargs=3, metavar=('MAE', 'HEADS', 'REFINED'),
                        default=(Length.mae, Length.heads, Length.refined), help='for a quick trial: 2 1 1')
    parser.add_argument('--images', type=int, default=Length.images, help='for training; for a quick trial: 512')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/methods'), help='folder of runs and results')
    return parser.parse_args()


def score(checkpoint: Path, row: Row, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Percent of the test images that are right, on frozen features after the final norm, by pool and protocol."""
    cfg = put_encoder(Config.fromfile(CONFIGS['graft']), row)
    by_pool = {pool: frozen_scores(cfg, checkpoint, out / 'features', seed, pool) for pool in POOLS}
    return {pool: {score: found[score] for score in SCORES} for pool, found in by_pool.items()}


def finetune(checkpoint: Path, row: Row, work_dir: Path, seed: int) -> float:
    """Percent of the test images that are right after fine-tuning."""
    return 100 * finetune_accuracy(put_encoder(finetune_recipe(checkpoint, seed, work_dir), row))


def run_seed(out: Path, length: Length, seed: int, wanted: Sequence[str]) -> None:
    """Train and score the rows of a seed that are missing."""
    for name, row in rows(length, out).items():
        frozen, tuned = (out / f'{kind}_{name}_{seed}.json' for kind in ('scores', 'finetuned'))
        if name not in wanted or (frozen.is_file() and tuned.is_file()):
            continue
        checkpoint = train_row(name, row, length, out, seed)
        if not frozen.is_file():
            write_json(frozen, score(checkpoint, row, out, seed))
        if not tuned.is_file():
            write_json(tuned, finetune(checkpoint, row, out / 'finetune' / f'{name}_{seed}', seed))


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


def main() -> None:
    args = parse_args()
    with guarded():
        length = Length(*args.epochs, args.images)
        keep_length(args.out, length)
        prepare_fashion_mnist('data/fashion_mnist')
        MMLogger.get_current_instance().setLevel('ERROR')
        for seed in args.seeds:
            run_seed(args.out, length, seed, args.rows)
            write_results(args.out, length, BATCH)


if __name__ == '__main__':
    main()
