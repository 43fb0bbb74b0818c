"""How long to pre-train before weak supervision: scores after the same hashtags by epochs of MAE, as a curve.

The paper's figure of the length of pre-pretraining at small scale: the demo's MAE for 0, 1, 3, 6 and 12 epochs of
10,000 images, warm-up and cosine in proportion, then the weak supervision of this folder. A training or score that is
there is not done again. Results: OUT/lengths.json, OUT/table.md, OUT/lengths.png.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from experiments.pages import mean_and_spread
from experiments.wsp.__main__ import keep_settings, prepare, train
from experiments.wsp.rows import MAE, MAE_EPOCHS, Row, score_frozen, score_tags
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json
from mm_graft.files import atomic_write

LENGTHS = (0, 1, 3, 6, MAE_EPOCHS)
SCORES = {'knn': 'kNN', 'linear': 'linear probe', 'fewshot_1': '1 % of the labels', 'by_tags': 'by its own tags'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lengths', type=int, nargs='+', default=LENGTHS, help='epochs of MAE')
    parser.add_argument('--noise', type=float, default=0.4, help='share of class tags that name another class')
    parser.add_argument('--images', type=int, default=Row.images, help='for training; for a quick trial: 200')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/weak_supervision_lengths'))
    return parser.parse_args()


def row_of(out: Path, epochs: int, seed: int, images: int = Row.images) -> Row:
    """Weak supervision after ``epochs`` of MAE, each length in a folder of its own."""
    return Row('mae2wsp' if epochs else 'random2wsp', seed, out / f'mae_{epochs}_epochs', epochs or MAE_EPOCHS, images)


def mae_options(epochs: int, images: int = Row.images) -> list[str]:
    """What a MAE of ``epochs`` changes in the demo's: its length, and the warm-up in proportion."""
    return [f'max_epochs={epochs}', f'param_scheduler.warmup={epochs / MAE_EPOCHS}', f'num_images={images}']


def score(row: Row, epochs: int) -> dict:
    """Train and score what is missing of a row after so many epochs of MAE."""
    if epochs:
        train(MAE, row.mae.parent, row.seed, mae_options(epochs, row.images))
    train(row.config, row.folder, row.seed, row.options)
    row.add('knn', score_frozen)
    row.add('by_tags', score_tags)
    return {**row.known(), 'mae_epochs': epochs}


def table(rows: Sequence[dict]) -> str:
    """Markdown table of the scores, a line a length."""
    lines = [f'| epochs of MAE | seeds | {" | ".join(SCORES.values())} |', '|---' * (2 + len(SCORES)) + '|']
    for length in sorted({row['mae_epochs'] for row in rows}):
        mine = [row for row in rows if row['mae_epochs'] == length]
        cells = (mean_and_spread([row[key] for row in mine]) for key in SCORES)
        lines.append(f'| {length} | {len(mine)} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def draw(rows: Sequence[dict], path: Path) -> None:
    """Each score over the epochs of MAE: the mean over the seeds, and every seed as a point."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    lengths = sorted({row['mae_epochs'] for row in rows})
    for index, (key, name) in enumerate(SCORES.items()):
        by_length = [[row[key] for row in rows if row['mae_epochs'] == length] for length in lengths]
        axes.plot(lengths, [fmean(values) for values in by_length], 'o-', color=f'C{index}', label=name)
        for length, values in zip(lengths, by_length):
            axes.plot([length] * len(values), values, '.', color=f'C{index}', alpha=0.5)
    axes.set(xlabel='epochs of MAE before weak supervision', ylabel='% of the test images', xticks=lengths)
    axes.legend(frameon=False)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=150, format='png')


def main() -> None:
    args = parse_args()
    with guarded():
        keep_settings(args.out, noise=args.noise, images=args.images)
        prepare(args.noise, args.images)
        init_default_scope('mmpretrain')
        MMLogger.get_current_instance().setLevel('ERROR')
        rows = []
        for seed in args.seeds:
            rows += [score(row_of(args.out, epochs, seed, args.images), epochs) for epochs in args.lengths]
            write_json(args.out / 'lengths.json', {'images': args.images, 'noise': args.noise, 'rows': rows})
            (args.out / 'table.md').write_text(table(rows))
            draw(rows, args.out / 'lengths.png')


if __name__ == '__main__':
    main()
