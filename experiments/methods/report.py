"""Tables and figures of docs/results.md out of docs/results/fashion_mnist.json.

python -m experiments.methods.report [OUT] first puts the results of OUT there.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.page import put
from experiments.methods.figures import POOLS, SCORES, draw_choices, draw_costs, values
from experiments.methods.neighbors import draw, joined, logged
from experiments.methods.rows import TITLES, Length, cost, epochs_of, rows
from experiments.pages import facts, mean_and_spread, provenance
from experiments.training import ROOT
from mm_graft.analysis.gradient_conflict import draw_conflict
from mm_graft.analysis.training_curves import read_scalars
from mm_graft.evaluation.report import write_json

DOCS = ROOT / 'docs'
RESULTS = 'results/fashion_mnist.json'
TUNED = 'fine-tuned, 1,000 labels'
STAGES = ('heads', 'refined')
CONFLICT = 'cos_conflict/block_'


def write_results(out: Path, length: Length, batch: int) -> dict:
    """Collect what is there into OUT/results.json: every row's cost, and its scores by seed, pool and protocol."""
    found = {}
    for name, row in rows(length, out).items():
        seeds = {path.stem.rpartition('_')[2]: read_scores(path)
                 for path in sorted(out.glob(f'scores_{name}_*.json'))
                 if path.stem.removeprefix(f'scores_{name}_').isdigit()}
        if seeds:
            tuned = {seed: out / f'finetuned_{name}_{seed}.json' for seed in seeds}
            found[name] = {'images': epochs_of(row, length) * length.images,
                           'tflops': cost(row, length, out) * length.images / 1000, 'seeds': seeds,
                           'finetuned': {seed: round(json.loads(path.read_text()), 3)
                                         for seed, path in tuned.items() if path.is_file()}}
    refined, joint = (found.get(name, {'seeds': {}})['seeds'] for name in ('refined', 'joint'))
    curves = {seed: joined([logged(out / f'refined_{stage}_{seed}', batch) for stage in STAGES]) for seed in refined}
    conflicts = {seed: read_conflict(out / f'joint_joint_{seed}') for seed in joint}
    rates = out / 'rates.json'
    results = {**provenance(out), 'rows': found, 'neighbors_of_the_same_class': curves, 'conflict': conflicts,
               'rates': json.loads(rates.read_text()) if rates.is_file() else {}}
    write_json(out / 'results.json', results)
    return results


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Percentages of one encoder, by pool and score."""
    found = json.loads(path.read_text())
    return {pool: {score: round(found[pool][score], 3) for score in SCORES} for pool in POOLS}


def read_conflict(run: Path) -> list[list[float]]:
    """Cosines (num_measurements, num_blocks) of the two gradients that a joint run has logged."""
    lines = read_scalars(run, f'{CONFLICT}01')
    return [[round(line[name], 4) for name in sorted(line) if name.startswith(CONFLICT)] for line in lines]


def table(results: dict, pool: str) -> str:
    """Markdown table: mean ± standard deviation over the seeds; what is fine-tuned reads the class token."""
    tuned = pool == 'cls' and any(row['finetuned'] for row in results['rows'].values())
    titles = [*SCORES.values(), *([TUNED] if tuned else [])]
    lines = [f'| method | images | TFLOP | seeds | {" | ".join(titles)} |',
             '|---|---:|---:|---:' + '|---:' * len(titles) + '|']
    for name, title in TITLES.items():
        if row := results['rows'].get(name):
            columns = [values(row, pool, score) for score in SCORES]
            if tuned:
                columns.append(list(row['finetuned'].values()))
            cells = ' | '.join(map(mean_and_spread, columns))
            lines.append(f'| {title} | {row["images"] // 1000}k | {row["tflops"]:.0f} | {len(row["seeds"])} '
                         f'| {cells} |')
    return '\n'.join(lines)


def rates_table(results: dict) -> str:
    """Markdown table of the search of learning rates: the score at each factor."""
    searched = results['rates']
    factors = sorted({factor for found in searched.values() for factor in found['knn']}, key=float)
    lines = [f'| method | rate | {" | ".join(f"×{factor}" for factor in factors)} |',
             '|---|---:|' + '---:|' * len(factors)]
    for name, found in searched.items():
        cells = ' | '.join(f'{found["knn"][factor]:.1f}' if factor in found['knn'] else '–' for factor in factors)
        lines.append(f'| {TITLES[name]} | {found["rate"]:g} | {cells} |')
    return '\n'.join(lines)


def write_page(docs: Path) -> None:
    """Put the tables into docs/results.md and draw the figures beside the JSON file."""
    results = json.loads((docs / RESULTS).read_text())
    page, folder = docs / 'results.md', (docs / RESULTS).with_suffix('')
    parts = {'fashion-run': facts(results), 'fashion-rates': rates_table(results),
             **{f'fashion-{pool}': table(results, pool) for pool in POOLS}}
    for name, text in parts.items():
        put(page, name, text)
    folder.mkdir(exist_ok=True)
    for name, draw_figure in {'costs': draw_costs, 'choices': draw_choices}.items():
        draw_figure(results).savefig(folder / f'{name}.png', dpi=130)
    if any(results['neighbors_of_the_same_class'].values()):
        draw(results['neighbors_of_the_same_class']).savefig(folder / 'neighbors.png', dpi=130)
    if results['conflict']:
        cosines = np.concatenate([np.array(seed) for seed in results['conflict'].values()])
        draw_conflict({TITLES['joint']: cosines}).savefig(folder / 'conflict.png', dpi=130)


def main(argv: Sequence[str]) -> None:
    """Take over results, if a folder is given; then tables and figures."""
    for out in argv:
        shutil.copy(Path(out) / 'results.json', DOCS / RESULTS)
    write_page(DOCS)


if __name__ == '__main__':
    main(sys.argv[1:])
