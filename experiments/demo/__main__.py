"""MAE → graft on Fashion-MNIST, end to end, against MoCo v3 from scratch: a table and a picture in minutes.

Fetches the data, trains MAE, the graft and MoCo v3 from scratch, and evaluates each, beside random weights, by kNN, a
linear probe and 1 % few-shot. An interrupted demo resumes. Results: work_dirs/demo/report.{json,md,png}.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger

from experiments.demo.report import write_report
from experiments.fashion_mnist import prepare_fashion_mnist
from experiments.scores import frozen_scores
from experiments.training import last_checkpoint, last_epoch, run_training, save_initial_weights, train_command
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json
from mm_graft.files import read_small_json
from mm_graft.progress import Progress

CONFIGS = Path(__file__).with_name('configs')
OUT = Path('work_dirs/demo')
RUNS = {'mae': 'MAE', 'graft': 'MAE → graft', 'mocov3': 'MoCo v3 from scratch'}
METHODS = {'random weights': 'random', 'MAE': 'mae', 'MoCo v3': 'mocov3', 'graft': 'graft'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seed', type=int, default=0, help='seed of weights, order and views')
    parser.add_argument('--epochs', type=int, metavar='N', help='epochs of each run, at least 2, for a quick trial')
    return parser.parse_args()


def keep_to_settings(seed: int, epochs: int | None) -> None:
    """See that the folder belongs to a demo of these settings: its runs and seconds are found by their names.

    Raises:
        ValueError: it has another one's.
    """
    configs = ''.join(Config.fromfile(CONFIGS / f'{name}.py').pretty_text for name in RUNS)
    asked = {'seed': seed, 'epochs': epochs, 'configs': hashlib.sha256(configs.encode()).hexdigest()}
    path = OUT / 'settings.json'
    known = read_small_json(path) if path.is_file() else asked
    if known != asked:
        changed = [f'{key} {known.get(key)} → {value}' for key, value in asked.items() if known.get(key) != value]
        raise ValueError(f'{OUT} has a demo of other settings ({", ".join(changed)}); move it away')
    write_json(path, asked)


def read_seconds() -> dict[str, float]:
    """Seconds by part, added up over interruptions."""
    path = OUT / 'seconds.json'
    return json.loads(path.read_text()) if path.is_file() else {}


def add_seconds(part: str, seconds: float) -> None:
    """Add to the seconds of a part."""
    known = read_seconds()
    known[part] = known.get(part, 0.0) + seconds
    (OUT / 'seconds.json').write_text(json.dumps(known, indent=1))


def train(name: str, seed: int, epochs: int | None = None) -> None:
    """Train a config to its end, with a progress bar, unless that has been done; the graft starts from the MAE here."""
    config, folder = CONFIGS / f'{name}.py', OUT / name
    max_epochs = epochs or Config.fromfile(config).train_cfg.max_epochs
    if last_epoch(folder) >= max_epochs:
        Progress.write(f'{RUNS[name]}: already trained')
        return
    start = time.time()
    options = ['default_hooks.logger.interval=3', f'train_cfg.max_epochs={max_epochs}']
    if name == 'graft':
        options.append(f'default_hooks.init.checkpoint={last_checkpoint(OUT / "mae")}')
    try:
        run_training(train_command(config, folder, seed, options), OUT / f'{name}.log', RUNS[name], max_epochs)
    finally:
        add_seconds(name, time.time() - start)


def score_all(seed: int) -> list[dict]:
    """The scores of each method."""
    MMLogger.get_current_instance().setLevel('ERROR')  # not a line for each initialized parameter
    cfg = Config.fromfile(CONFIGS / 'mocov3.py')
    checkpoints = {method: last_checkpoint(OUT / run) or save_initial_weights(cfg, OUT / run, seed)
                   for method, run in METHODS.items()}
    bar = Progress(checkpoints.items(), desc=f'{"evaluation":>20}', unit='encoder')
    return [{'method': method, **frozen_scores(cfg, checkpoint, OUT / 'features', seed)} for method, checkpoint in bar]


def main() -> None:
    args = parse_args()
    with guarded():
        OUT.mkdir(parents=True, exist_ok=True)
        keep_to_settings(args.seed, args.epochs)
        start = time.time()
        prepare_fashion_mnist('data/fashion_mnist')
        add_seconds('data', time.time() - start)
        for name in RUNS:
            train(name, args.seed, args.epochs)
        start = time.time()
        rows = score_all(args.seed)
        add_seconds('evaluation', time.time() - start)
        write_report(OUT, rows, read_seconds(), args.seed)


if __name__ == '__main__':
    main()
