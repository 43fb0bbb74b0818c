"""The tables of docs/weak_supervision.md and its two figures, from the numbers beside this file.

python -m docs.figures.weak_supervision
"""

import json
from math import nan
from pathlib import Path
from statistics import fmean, stdev

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from benchmarks.page import put
from experiments.wsp import __main__ as wsp
from experiments.wsp import lengths

HERE = Path(__file__).parent
NAMES = {
    'random': ('random weights', '#999999'),
    'mae': ('MAE', '#555555'),
    'random2wsp': ('random → WSP', '#d95f02'),
    'mae2wsp': ('MAE → WSP', '#1b9e77'),
    'mae2wsp_grafted': ('MAE → WSP, grafted', '#7570b3'),
    'mae2wsp_anchored': ('MAE → WSP, anchored', '#e7298a'),
    'mae2wsp_freezeout': ('MAE → WSP, FreezeOut', '#66a61e'),
}
PROTOCOLS = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 % of labels',
             'finetune_10': 'fine-tuned,\n10 % of labels'}


def by_method(rows):
    """Name, color and the rows of all seeds."""
    for method, (name, color) in NAMES.items():
        found = [row for row in rows if row['method'] == method]
        if found:
            yield name, color, found


def draw_curve(axes, points, x, y, name, color):
    """Mean over the seeds, and between the lowest and the highest of them."""
    seeds = [[point[y] for point in one] for one in points]
    where = [point[x] for point in points[0]]
    axes.plot(where, [fmean(each) for each in zip(*seeds, strict=True)], 'o-', ms=3, color=color, label=name)
    axes.fill_between(where, [min(each) for each in zip(*seeds, strict=True)],
                      [max(each) for each in zip(*seeds, strict=True)], color=color, alpha=0.15, lw=0)


def draw_weak_supervision(axes, rows):
    for name, color, found in by_method(rows):
        curves = [[{**point, 'images': point['images'] / 1000} for point in row['curve']]
                  for row in found if 'curve' in row]
        if curves:
            draw_curve(axes, curves, 'images', 'knn', name, color)
    axes.set(xlabel='images of weak supervision seen (thousands)', ylabel='kNN, % (4000 images against 4000)',
             title='Convergence of weak supervision')
    axes.legend(frameon=False, fontsize=8)


def draw_finetuning(axes, rows):
    for name, color, found in by_method(rows):
        curves = [row['finetune_10_curve'] for row in found if 'finetune_10_curve' in row]
        if curves:
            draw_curve(axes, curves, 'epoch', 'top1', name, color)
    axes.set(xlabel='epochs of fine-tuning on 1,000 labels', ylabel='% of the first 1000 test images',
             title='Convergence of fine-tuning')


def draw_bars(axes, rows):
    methods = list(by_method(rows))
    width = 0.8 / len(methods)
    for place, (name, color, found) in enumerate(methods):
        where = [index + (place - (len(methods) - 1) / 2) * width for index in range(len(PROTOCOLS))]
        values = [[row[key] for row in found if key in row] for key in PROTOCOLS]
        spread = [stdev(each) if len(each) > 1 else 0 for each in values]
        axes.bar(where, [fmean(each) if each else nan for each in values], width, yerr=spread, error_kw={'lw': 0.8},
                 color=color, label=name)
    axes.set_xticks(range(len(PROTOCOLS)), PROTOCOLS.values(), fontsize=8)
    axes.set(ylim=(45, None), ylabel='% of 10,000 test images (axis from 45)', title='At the end')
    axes.legend(frameon=False, fontsize=7, ncol=2, loc='upper center', bbox_to_anchor=(0.5, -0.15))


def main():
    page, images = HERE.parent / 'weak_supervision.md', HERE.parent / 'images'
    rows, by_length = (json.loads((HERE / f'{name}.json').read_text())['rows']
                       for name in ('weak_supervision', 'weak_supervision_lengths'))
    put(page, 'weak-supervision', wsp.table(rows))
    put(page, 'weak-supervision-lengths', lengths.table(by_length))
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout='constrained')
    for each, draw in zip(axes, (draw_weak_supervision, draw_bars, draw_finetuning), strict=True):
        draw(each, rows)
        each.spines[['top', 'right']].set_visible(False)
    figure.savefig(images / 'weak_supervision.png', dpi=110)
    lengths.draw(by_length, images / 'weak_supervision_lengths.png')


if __name__ == '__main__':
    main()
