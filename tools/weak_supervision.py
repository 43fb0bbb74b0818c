#!/usr/bin/env python
"""MAE → weak supervision on Fashion-MNIST with noisy hashtags: every row of docs/weak_supervision.md, seed by seed.

Trains configs/demo/mae.py and configs/wsp/fashion-mnist_*.py, scores kNN, a linear probe and 1 % few-shot of each
encoder, the classifier's own tags, and kNN on the way. What is done is not done again. Results: OUT/report.json.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from demo_evaluate import build_encoder, few_shot, loader
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.datasets import FashionMNIST

from mm_graft.checkpoints import read_checkpoint
from mm_graft.cli import clean_errors
from mm_graft.datasets.fashion_mnist import prepare_fashion_mnist
from mm_graft.datasets.noisy_captions import FASHION_SYNSETS, write_noisy_captions
from mm_graft.evaluation.features import extract_features
from mm_graft.evaluation.knn import knn_accuracy
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid

ROOT = Path(__file__).resolve().parents[1]
ROWS = ('random2wsp', 'mae2wsp', 'mae2wsp_grafted', 'mae2wsp_anchored', 'mae2wsp_freezeout')
BATCH, STEPS = 128, 39  # half an epoch between two points of a curve
CURVE_BATCHES = 8  # of 500 training and 500 test images


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--prepare', action='store_true', help='write the images and captions, and no more')
    parser.add_argument('--noise', type=float, default=0.4, help='share of class tags that name another class')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/weak_supervision'))
    return parser.parse_args()


def prepare(noise: float) -> None:
    """Fashion-MNIST's first 10,000 images with captions of their own."""
    root = prepare_fashion_mnist('data/fashion_mnist')
    data = FashionMNIST(data_root=str(root), download=False, indices=10000)
    rows = [data.get_data_info(index) for index in range(len(data))]
    write_noisy_captions([row['img'] for row in rows], [int(row['gt_label']) for row in rows],
                         'data/fashion_mnist_tags', noise, seed=0)


def train(config: Path, folder: Path, seed: int, options: list[str]) -> None:
    """Run a config to its end, unless it has been there."""
    if (folder / 'done').is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (folder / 'log.txt').open('w') as log:
        subprocess.run([sys.executable, ROOT / 'tools' / 'train.py', config, '--work-dir', folder, '--cfg-options',
                        f'randomness.seed={seed}', *options], stdout=log, stderr=log, check=True)
    (folder / 'done').write_text(f'{time.perf_counter() - start:.1f} s\n')


def features_of(cfg: Config, checkpoint: Path | None, seed: int, loaders: tuple) -> list:
    """Features and labels of the training and the test images."""
    encoder = build_encoder(cfg, checkpoint, seed)
    return [tensor for each in loaders for tensor in extract_features(encoder, each, progress=False)]


def by_tags(features: torch.Tensor, labels: torch.Tensor, checkpoint: Path) -> float:
    """Percentage of images whose highest tag, of those that name a class, is right: no label was ever seen."""
    state = read_checkpoint(checkpoint)
    scores = features @ state['head.fc.weight'].T + state['head.fc.bias']  # (N, C)
    return 100 * float((scores[:, :len(FASHION_SYNSETS)].argmax(1) == labels).float().mean())


def score(features: list, seed: int) -> dict:
    """Accuracy of kNN, linear probe and 1 % few-shot in percent."""
    settings = LinearProbeSettings(grid=tuple(sweep_grid([0.1, 0.3, 1.0, 3.0, 10.0, 30.0], (0, ))), epochs=30,
                                   batch_size=256, batch_norm=True, seed=seed)
    few = few_shot(*features, seed)
    return {'knn': 100 * knn_accuracy(*features, ks=(20, ))[20],
            'linear': 100 * linear_probe(*features, settings=settings).accuracy,
            'fewshot_1': 100 * sum(few) / len(few)}


def curve(cfg: Config, folder: Path, seed: int, loaders: tuple) -> list[dict]:
    """Accuracy of kNN on part of the images at every checkpoint of a run."""
    points = []
    for path in sorted(folder.glob('iter_*.pth'), key=lambda path: int(path.stem.split('_')[1])):
        features = features_of(cfg, path, seed, loaders)
        seen = BATCH * int(path.stem.split('_')[1])
        points.append({'images': seen, 'knn': 100 * knn_accuracy(*features, ks=(20, ))[20]})
    return points


def run_seed(out: Path, seed: int) -> list[dict]:
    """All rows of one seed."""
    mae = out / f'mae_{seed}'
    train(ROOT / 'configs/demo/mae.py', mae, seed, [])
    checkpoint = mae / 'epoch_12.pth'
    rows = []
    for name in (None, 'mae', *ROWS):
        path = out / f'row_{name}_{seed}.json'
        if not path.is_file():
            config = ROOT / f'configs/wsp/fashion-mnist_{name if name in ROWS else "random2wsp"}.py'
            folder = out / f'{name}_{seed}'
            if name in ROWS:
                source = [f'model.mim_checkpoint={checkpoint}'] if 'mae' in name else []
                train(config, folder, seed, [
                    'default_hooks.checkpoint.by_epoch=False', f'default_hooks.checkpoint.interval={STEPS}',
                    'default_hooks.checkpoint.max_keep_ckpts=-1', *source,
                    *([f'custom_hooks.0.checkpoint={checkpoint}'] if 'anchored' in name else [])])
            path.write_text(json.dumps(evaluate(config, name, folder, checkpoint, seed)))
        rows.append(json.loads(path.read_text()))
    return rows


def evaluate(config: Path, name: str | None, folder: Path, mae: Path, seed: int) -> dict:
    """What an encoder is worth, at the end and, if it was trained here, on the way."""
    init_default_scope('mmpretrain')
    MMLogger.get_current_instance().setLevel('ERROR')
    cfg = Config.fromfile(config)
    plain = Config.fromfile(ROOT / 'configs/demo/mae.py')
    loaders = loader(plain, test=False), loader(plain, test=True)
    last = Path((folder / 'last_checkpoint').read_text().strip()) if name in ROWS else mae if name else None
    features = features_of(cfg, last, seed, loaders)
    row = {'method': name or 'random', 'seed': seed, **score(features, seed)}
    if name in ROWS:
        parts = tuple(list(islice(each, CURVE_BATCHES)) for each in loaders)
        row |= {'by_tags': by_tags(features[2], features[3], last), 'curve': curve(cfg, folder, seed, parts),
                'training_seconds': float((folder / 'done').read_text().split()[0])}
    return row


def main() -> None:
    args = parse_args()
    with clean_errors():
        prepare(args.noise)
        if args.prepare:
            return
        rows = []
        for seed in args.seeds:
            rows += run_seed(args.out, seed)
            report = {'noise': args.noise, 'rows': rows, 'torch': torch.__version__}
            (args.out / 'report.json').write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
