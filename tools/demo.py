"""MAE → graft on Fashion-MNIST, end to end, against MoCo v3 from scratch: a table and a picture in minutes.

Data, MAE, the graft and MoCo v3 from scratch, then kNN, linear probe and 1 % few-shot of each, beside random weights.
Interrupted, it goes on where it was. Results: work_dirs/demo/report.{json,md,png}.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from demo_report import write_report
from mmengine.config import Config
from tqdm import tqdm
from training_log import last_epoch, run_training

from mm_graft.commands.running import clean_errors
from mm_graft.datasets.fashion_mnist import prepare_fashion_mnist

ROOT = Path(__file__).resolve().parents[1]
OUT = Path('work_dirs/demo')
RUNS = {'mae': 'MAE', 'graft': 'MAE → graft', 'mocov3': 'MoCo v3 from scratch'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seed', type=int, default=0, help='seed of weights, order and views')
    return parser.parse_args()


def remembered_seconds() -> dict[str, float]:
    """Seconds that each finished part has taken, over interruptions."""
    path = OUT / 'seconds.json'
    return json.loads(path.read_text()) if path.is_file() else {}


def remember(part: str, seconds: float) -> None:
    """Add to the seconds of a part."""
    known = remembered_seconds()
    known[part] = known.get(part, 0.0) + seconds
    (OUT / 'seconds.json').write_text(json.dumps(known, indent=1))


def train(name: str, seed: int) -> None:
    """Run configs/demo/NAME.py to its end, with a progress bar; what is done already is not done again."""
    max_epochs = Config.fromfile(ROOT / 'configs' / 'demo' / f'{name}.py').max_epochs
    if last_epoch(OUT / name) >= max_epochs:
        tqdm.write(f'{RUNS[name]}: already trained')
        return
    start = time.time()
    command = [
        sys.executable, ROOT / 'tools' / 'train.py', ROOT / 'configs' / 'demo' / f'{name}.py', '--work-dir', OUT / name,
        '--resume', '--cfg-options', f'randomness.seed={seed}', 'default_hooks.logger.interval=3'
    ]
    try:
        run_training(command, OUT / f'{name}.log', RUNS[name], max_epochs)
    finally:
        remember(name, time.time() - start)


def main() -> None:
    args = parse_args()
    with clean_errors():
        OUT.mkdir(parents=True, exist_ok=True)
        start = time.time()
        prepare_fashion_mnist('data/fashion_mnist')
        remember('data', time.time() - start)
        for name in RUNS:
            train(name, args.seed)
        start = time.time()
        from demo_evaluate import evaluate_all
        rows = evaluate_all(OUT, args.seed)
        remember('evaluation', time.time() - start)
        write_report(OUT, rows, remembered_seconds(), args.seed)


if __name__ == '__main__':
    main()
