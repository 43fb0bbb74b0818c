#!/usr/bin/env python
"""MAE → weak supervision on Fashion-MNIST with noisy hashtags: every row of docs/weak_supervision.md, seed by seed.

Trains configs/demo/mae.py and configs/wsp/fashion-mnist_*.py, scores kNN, a linear probe, 1 % few-shot and fine-tuning
on 10 % of the labels of each encoder, the classifier's own tags, and kNN on the way. What is done is not done again: a
training that has ended, a score that is written. Results: OUT/report.json, OUT/table.md.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev

import torch
from demo_evaluate import build_encoder, few_shot, loader
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.datasets import FashionMNIST

from mm_graft.checkpoints import read_checkpoint
from mm_graft.commands.running import clean_errors
from mm_graft.datasets.fashion_mnist import prepare_fashion_mnist
from mm_graft.datasets.noisy_captions import FASHION_SYNSETS, write_noisy_captions
from mm_graft.evaluation.datasets import build_dataset, image_labels
from mm_graft.evaluation.features import extract_features
from mm_graft.evaluation.fewshot_finetune import finetune_accuracy
from mm_graft.evaluation.knn import knn_accuracy
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid
from mm_graft.evaluation.report import write_json
from mm_graft.evaluation.splits import pick_share

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ROOT / 'configs/demo/mae.py'
STARTS = ('random', 'mae')
ROWS = ('random2wsp', 'mae2wsp', 'mae2wsp_grafted', 'mae2wsp_anchored', 'mae2wsp_freezeout')
SCORES = ('knn', 'linear', 'fewshot_1', 'finetune_10', 'by_tags', 'retrieval_100')
BATCH, STEPS = 128, 39  # an epoch has 78 steps
CURVE = (39, 78, 156, 312)  # steps after which kNN is scored
CURVE_BATCHES = 8  # of 500 training and 500 test images
RETRIEVED = 100  # images a tag, of the 1,000 that are right


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--prepare', action='store_true', help='write the images and captions, and no more')
    parser.add_argument('--noise', type=float, default=0.4, help='share of class tags that name another class')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', default=[*STARTS, *ROWS], choices=[*STARTS, *ROWS])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/weak_supervision'))
    return parser.parse_args()


def prepare(noise: float) -> None:
    """Fashion-MNIST's first 10,000 images with captions of their own."""
    root = prepare_fashion_mnist('data/fashion_mnist')
    data = FashionMNIST(data_root=str(root), download=False, indices=10000)
    rows = [data.get_data_info(index) for index in range(len(data))]
    write_noisy_captions([row['img'] for row in rows], [int(row['gt_label']) for row in rows],
                         'data/fashion_mnist_tags', noise, seed=0)


def keep_noise(out: Path, noise: float) -> None:
    """Note the share of wrong tags beside the results, which are of one share only.

    Raises:
        ValueError: what is there comes from another share.
    """
    note = out / 'noise.txt'
    if note.is_file() and float(note.read_text()) != noise:
        raise ValueError(f'{out} holds results with noise {note.read_text()}; give --noise {noise} an --out of its own')
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(str(noise))


def train(config: Path, folder: Path, seed: int, options: list[str]) -> None:
    """Run a config to its end, unless it has been there; an interrupted run goes on."""
    if (folder / 'done').is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (folder / 'log.txt').open('w') as log:
        subprocess.run([sys.executable, ROOT / 'tools' / 'train.py', config, '--work-dir', folder, '--resume',
                        '--cfg-options', f'randomness.seed={seed}', *options], stdout=log, stderr=log, check=True)
    (folder / 'done').write_text(f'{time.perf_counter() - start:.1f} s\n')


@dataclass(frozen=True)
class Row:
    """One encoder of one seed: where it lies, what trains it, and what is known of it.

    Args:
        name: ``random``, ``mae``, or one of ``ROWS``.
        seed: of initial weights, order and crops. The captions are the same for all.
        out: folder of the runs.
    """

    name: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return self.out / f'{self.name}_{self.seed}'

    @property
    def mae(self) -> Path:
        """MAE's last checkpoint of the same seed."""
        return self.out / f'mae_{self.seed}' / 'epoch_12.pth'

    @property
    def config(self) -> Path:
        """What trains it, or, for an encoder that is not trained on tags, has the same backbone."""
        return ROOT / f'configs/wsp/fashion-mnist_{self.name if self.name in ROWS else "random2wsp"}.py'

    @property
    def checkpoint(self) -> Path | None:
        """Its last one; None for random weights."""
        if self.name in ROWS:
            return Path((self.folder / 'last_checkpoint').read_text().strip())
        return self.mae if self.name == 'mae' else None

    @property
    def options(self) -> list[str]:
        """What its training changes in the config: checkpoints to draw a curve from, and MAE's."""
        source = [f'model.mim_checkpoint={self.mae}'] if 'mae' in self.name else []
        anchor = [f'custom_hooks.0.checkpoint={self.mae}'] if 'anchored' in self.name else []
        return ['default_hooks.checkpoint.by_epoch=False', f'default_hooks.checkpoint.interval={STEPS}',
                'default_hooks.checkpoint.max_keep_ckpts=-1', *source, *anchor]

    @property
    def report(self) -> Path:
        """The file of its scores."""
        return self.out / f'row_{self.name}_{self.seed}.json'

    def known(self) -> dict:
        """The scores that are there."""
        return json.loads(self.report.read_text()) if self.report.is_file() else {}

    def add(self, key: str, compute: Callable[['Row'], dict]) -> None:
        """Write what ``compute`` gives to the scores, unless ``key``, which is part of it, is there."""
        known = self.known()
        if key not in known:
            write_json(self.report, {'method': self.name, 'seed': self.seed, **known, **compute(self)})


@lru_cache(maxsize=1)
def loaders() -> tuple:
    """The 10,000 training images with their right labels, and the test images."""
    plain = Config.fromfile(PLAIN)
    return loader(plain, test=False), loader(plain, test=True)


def features_of(row: Row, checkpoint: Path | None, sets: Sequence) -> list:
    """Features and labels of every set of images."""
    encoder = build_encoder(Config.fromfile(row.config), checkpoint, row.seed)
    return [tensor for each in sets for tensor in extract_features(encoder, each, progress=False)]


@lru_cache(maxsize=1)
def last_features(row: Row) -> list:
    """Features and labels of the training and the test images at the end, kept for the next score of the same row."""
    return features_of(row, row.checkpoint, loaders())


def frozen_scores(row: Row) -> dict:
    """Accuracy of kNN, linear probe and 1 % few-shot in percent."""
    features = last_features(row)
    settings = LinearProbeSettings(grid=tuple(sweep_grid([0.1, 0.3, 1.0, 3.0, 10.0, 30.0], (0, ))), epochs=30,
                                   batch_size=256, batch_norm=True, seed=row.seed)
    few = few_shot(*features, row.seed)
    return {'knn': 100 * knn_accuracy(*features, ks=(20, ))[20],
            'linear': 100 * linear_probe(*features, settings=settings).accuracy,
            'fewshot_1': 100 * sum(few) / len(few)}


def tag_scores(row: Row) -> dict:
    """What the classifier says as it is, and how long its training took."""
    features, labels = last_features(row)[2:]
    return {**by_tags(features, labels, row.checkpoint),
            'training_seconds': float((row.folder / 'done').read_text().split()[0])}


def by_tags(features: torch.Tensor, labels: torch.Tensor, checkpoint: Path) -> dict:
    """Classification and retrieval by the tags that name a class, in percent: no label was ever seen.

    ``by_tags``: images whose highest tag, of those, is right. ``retrieval_100``: the images with the highest
    probability of a tag, as many of each as ``RETRIEVED``; those of the right class, on the average of all tags.
    """
    state = read_checkpoint(checkpoint)
    scores = features @ state['head.fc.weight'].T + state['head.fc.bias']  # (N, C)
    classes = range(len(FASHION_SYNSETS))
    found = scores.softmax(1)[:, classes].topk(min(RETRIEVED, len(scores)), dim=0).indices  # (K, classes)
    right = labels[found] == torch.arange(len(classes), device=labels.device)
    return {'by_tags': 100 * float((scores[:, classes].argmax(1) == labels).float().mean()),
            'retrieval_100': 100 * float(right.float().mean())}


def curve(row: Row) -> dict:
    """Accuracy of kNN on part of the images at some checkpoints of a run."""
    parts = tuple(list(islice(each, CURVE_BATCHES)) for each in loaders())
    points = []
    for step in CURVE:
        features = features_of(row, row.folder / f'iter_{step}.pth', parts)
        points.append({'images': BATCH * step, 'knn': 100 * knn_accuracy(*features, ks=(20, ))[20]})
    return {'curve': points}


def finetune_recipe(row: Row) -> Config:
    """Fine-tuning on 100 right labels of each class, drawn by the row's seed: the same images for all encoders."""
    cfg = Config.fromfile(ROOT / 'configs/wsp/fashion-mnist_finetune.py')
    labels = image_labels(build_dataset(Config.fromfile(PLAIN).train_dataloader.dataset))
    cfg.train_dataloader.dataset.indices = pick_share(labels, cfg.num_labels / len(labels), row.seed).tolist()
    cfg.custom_hooks = [dict(cfg.custom_hooks[0], checkpoint=str(row.checkpoint))] if row.checkpoint else []
    cfg.default_hooks.checkpoint = cfg.visualizer = None
    cfg.randomness.seed = row.seed
    cfg.work_dir = str(row.out / 'finetune' / f'{row.name}_{row.seed}')
    cfg.experiment_name = f'finetune_{row.name}_{row.seed}'
    cfg.log_level = 'ERROR'
    return cfg


def finetuned(row: Row) -> dict:
    """Accuracy after fine-tuning, and, on part of the test images, on the way."""
    cfg = finetune_recipe(row)
    accuracy = finetune_accuracy(cfg)
    history = MessageHub.get_current_instance().get_scalar('val/accuracy/top1').data[0].tolist()
    epochs = (cfg.train_cfg.val_interval * (index + 1) for index in range(len(history)))
    return {'finetune_10': 100 * accuracy, 'finetune_10_curve': [
        {'epoch': epoch, 'top1': top1} for epoch, top1 in zip(epochs, history, strict=True)]}


def run_seed(out: Path, seed: int, names: Sequence[str] = (*STARTS, *ROWS)) -> None:
    """Some rows of one seed: what is missing of their training, then of their scores."""
    train(PLAIN, out / f'mae_{seed}', seed, [])
    rows = [Row(name, seed, out) for name in names]
    for row in rows:
        if row.name in ROWS:
            train(row.config, row.folder, seed, row.options)
        row.add('knn', frozen_scores)
        if row.name in ROWS:
            row.add('retrieval_100', tag_scores)
            row.add('curve', curve)
    for row in rows:
        row.add('finetune_10', finetuned)


def finished(out: Path) -> list[dict]:
    """All scores that are there, row by row, seed by seed."""
    return [json.loads(path.read_text()) for name in (*STARTS, *ROWS) for path in sorted(out.glob(f'row_{name}_*.json'))
            if path.stem.removeprefix(f'row_{name}_').isdigit()]


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return (f'{fmean(values):.1f}' if values else '') + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')


def table(rows: Sequence[dict]) -> str:
    """Markdown table of all scores, a line per method."""
    lines = [f'| method | seeds | {" | ".join(SCORES)} |', '|---' * (2 + len(SCORES)) + '|']
    for name in dict.fromkeys(row['method'] for row in rows):
        mine = [row for row in rows if row['method'] == name]
        cells = [cell([row[score] for row in mine if score in row]) for score in SCORES]
        lines.append(f'| {name} | {len(mine)} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    args = parse_args()
    with clean_errors():
        if not args.prepare:
            keep_noise(args.out, args.noise)
        prepare(args.noise)
        if args.prepare:
            return
        init_default_scope('mmpretrain')
        MMLogger.get_current_instance().setLevel('ERROR')
        for seed in args.seeds:
            run_seed(args.out, seed, args.rows)
            rows = finished(args.out)
            write_json(args.out / 'report.json', {
                'data': 'Fashion-MNIST, 10,000 training and 10,000 test images', 'noise': args.noise,
                'torch': torch.__version__, 'rows': rows})
            (args.out / 'table.md').write_text(table(rows))


if __name__ == '__main__':
    main()
