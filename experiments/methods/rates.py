"""A search of learning rates, of equal size for each method: factors of the experiment's rates, on fewer images.

Each is trained for as many epochs as in the experiment on the first 10,000 training images, with seed 0, and scored by
kNN (k = 20) among these on the last 10,000 training images: no test image decides. What stands on MAE stands on one at
its own rate. What is finished is not repeated.
Results: OUT/rates.json, which the next python -m experiments.methods takes over into OUT/results.json.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from experiments.fashion_mnist import prepare_fashion_mnist
from experiments.methods.figures import POOLS
from experiments.methods.rows import CONFIGS, TITLES, Length, Row, Step, put_encoder, rows
from experiments.methods.runs import train_row
from experiments.scores import settings_for
from mm_graft.commands.running import guarded
from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.report import write_json

FACTORS = (0.3, 1.0, 3.0)
LENGTH = Length(images=10000)
ROWS = ('mae', 'mocov3_flops', 'graft_images', 'joint', 'localmim', 'refined')
SEED = 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', nargs='+', choices=[name for name in TITLES if name != 'random'], default=list(ROWS))
    parser.add_argument('--factors', type=float, nargs='+', default=FACTORS, help='of the rates; the same for all rows')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/methods'), help='folder of the experiment')
    return parser.parse_args()


def rate_of(row: Row, length: Length) -> float:
    """The experiment's learning rate of a row's last training; MAE's own row is empty, as the others stand on it."""
    *_, last = row or (Step('mae', length.mae), )
    return Config.fromfile(CONFIGS[last.config]).optim_wrapper.optimizer.lr


def at_rate(row: Row, rate: float, length: Length) -> Row:
    """The row with another learning rate in its last training."""
    *below, last = row or (Step('mae', length.mae), )
    return (*below, replace(last, options=(*last.options, f'optim_wrapper.optimizer.lr={rate:g}')))


def score(checkpoint: Path, row: Row, cache: Path, images: int) -> float:
    """Percent of held-out training images that kNN names right, by the better of class token and mean of patches."""
    cfg = put_encoder(Config.fromfile(CONFIGS['graft']), row)
    train = cfg.train_dataloader.dataset
    train.indices = images
    cfg.test_dataloader = dict(dataset={**train, 'indices': -images})  # the last ones
    settings = replace(settings_for(cache, SEED), protocols=('knn', ))
    return max(evaluate(cfg, str(checkpoint), replace(settings, pool=pool))['protocols']['knn']['top1']
               for pool in POOLS)


def search(name: str, factors: Sequence[float], out: Path, length: Length) -> dict:
    """The experiment's rate of one row, and the scores by factor of it, those of earlier searches included."""
    row = rows(length, out)[name]
    rate = rate_of(row, length)
    for factor in factors:
        folder = f'{name}_at{100 * factor:.0f}'  # percent: no dot in a name
        path = out / 'rates' / f'score_{folder}.json'
        if not path.is_file():
            changed = row if factor == 1 else at_rate(row, rate * factor, length)
            checkpoint = train_row(folder, changed, length, out / 'rates', SEED)
            write_json(path, score(checkpoint, row, out / 'features', length.images))
    start = f'score_{name}_at'
    known = {int(path.stem.removeprefix(start)): path for path in (out / 'rates').glob(f'{start}*.json')}
    return {'rate': rate, 'knn': {f'{percent / 100:g}': json.loads(known[percent].read_text())
                                  for percent in sorted(known)}}


def main() -> None:
    args = parse_args()
    with guarded():
        prepare_fashion_mnist('data/fashion_mnist')
        MMLogger.get_current_instance().setLevel('ERROR')
        path = args.out / 'rates.json'
        found = json.loads(path.read_text()) if path.is_file() else {}
        for name in args.rows:
            found[name] = search(name, args.factors, args.out, LENGTH)
            write_json(path, found)


if __name__ == '__main__':
    main()
