"""MAE → weak supervision on Fashion-MNIST with noisy hashtags: every row of docs/weak_supervision.md, seed by seed.

Trains the demo's MAE and the configs of this folder, and scores each encoder by kNN, a linear probe, 1 % few-shot,
fine-tuning on 10 % of the labels and the classifier's own tags, and by kNN on the way. Trainings and scores that are
finished are not repeated. Results: OUT/report.json, OUT/table.md.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.datasets import FashionMNIST

from experiments.fashion_mnist import prepare_fashion_mnist
from experiments.pages import mean_and_spread
from experiments.training import run, train_command
from experiments.wsp.noisy_captions import write_noisy_captions
from experiments.wsp.rows import MAE, ROWS, STARTS, Row, score_curve, score_finetuned, score_frozen, score_tags
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json

SCORES = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 % of labels', 'finetune_10': 'fine-tuned, 10 %',
          'by_tags': 'by its own tags', 'retrieval_100': 'tag → image'}
TITLES = {'random': 'random weights', 'mae': 'MAE', 'random2wsp': 'random → WSP', 'mae2wsp': 'MAE → WSP',
          'mae2wsp_grafted': 'MAE → WSP, grafted (×0.1, ×0.1, ×1)',
          'mae2wsp_anchored': 'MAE → WSP, lower four blocks anchored',
          'mae2wsp_freezeout': 'MAE → WSP, grafted, FreezeOut'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--prepare', action='store_true', help='only write the images and captions')
    parser.add_argument('--noise', type=float, default=0.4, help='share of class tags that name another class')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', default=[*STARTS, *ROWS], choices=[*STARTS, *ROWS])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/weak_supervision'))
    return parser.parse_args()


def prepare(noise: float, images: int = 10000) -> None:
    """Write Fashion-MNIST's first images with generated captions."""
    root = prepare_fashion_mnist('data/fashion_mnist')
    data = FashionMNIST(data_root=str(root), download=False, indices=images)
    rows = [data.get_data_info(index) for index in range(len(data))]
    write_noisy_captions([row['img'] for row in rows], [int(row['gt_label']) for row in rows],
                         'data/fashion_mnist_tags', noise, seed=0)


def keep_settings(out: Path, **settings: float) -> None:
    """Note beside the results what they are results of.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    note = out / 'settings.json'
    known = json.loads(note.read_text()) if note.is_file() else settings
    if known != settings:
        raise ValueError(f'{out} holds results of {known}; give those of {settings} an --out of its own')
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, settings)


def train(config: Path, folder: Path, seed: int, options: list[str]) -> None:
    """Train a config to its end, unless that has been done; an interrupted run resumes."""
    if (folder / 'done').is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (folder / 'log.txt').open('w') as log:
        run(train_command(config, folder, seed, options), stdout=log, stderr=log)
    (folder / 'done').write_text(f'{time.perf_counter() - start:.1f} s\n')


def run_seed(out: Path, seed: int, names: Sequence[str] = (*STARTS, *ROWS)) -> None:
    """Some rows of one seed: what is missing of their training, then of their scores."""
    train(MAE, out / f'mae_{seed}', seed, [])
    rows = [Row(name, seed, out) for name in names]
    for row in rows:
        if row.name in ROWS:
            train(row.config, row.folder, seed, row.options)
        row.add('knn', score_frozen)
        if row.name in ROWS:
            row.add('retrieval_100', score_tags)
            row.add('curve', score_curve)
    for row in rows:
        row.add('finetune_10', score_finetuned)


def finished(out: Path) -> list[dict]:
    """All scores that are there, row by row, seed by seed."""
    return [json.loads(path.read_text()) for name in (*STARTS, *ROWS) for path in sorted(out.glob(f'row_{name}_*.json'))
            if path.stem.removeprefix(f'row_{name}_').isdigit()]


def table(rows: Sequence[dict]) -> str:
    """Markdown table of all scores, a line per method."""
    lines = [f'| encoder | seeds | {" | ".join(SCORES.values())} |', '|---' * (2 + len(SCORES)) + '|']
    for name in dict.fromkeys(row['method'] for row in rows):
        mine = [row for row in rows if row['method'] == name]
        found = ([row[score] for row in mine if score in row] for score in SCORES)
        cells = [mean_and_spread(values) if values else '' for values in found]
        lines.append(f'| {TITLES[name]} | {len(mine)} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    args = parse_args()
    with guarded():
        if not args.prepare:
            keep_settings(args.out, noise=args.noise)
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
