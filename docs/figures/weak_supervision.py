"""Draw docs/images/weak_supervision.png from the numbers beside this file.

python docs/figures/weak_supervision.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

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
PROTOCOLS = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 % of labels'}


def draw_curves(axes, rows):
    for row in rows:
        name, colour = NAMES[row['method']]
        if 'curve' in row:
            images = [point['images'] / 1000 for point in row['curve']]
            axes.plot(images, [point['knn'] for point in row['curve']], 'o-', ms=3, color=colour, label=name)
    axes.set(xlabel='images of weak supervision seen (thousands)', ylabel='kNN, % (4000 images against 4000)',
             title='Convergence')
    axes.legend(frameon=False, fontsize=8)


def draw_bars(axes, rows):
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        name, colour = NAMES[row['method']]
        where = [index + (place - (len(rows) - 1) / 2) * width for index in range(len(PROTOCOLS))]
        axes.bar(where, [row[key] for key in PROTOCOLS], width, color=colour, label=name)
    axes.set_xticks(range(len(PROTOCOLS)), PROTOCOLS.values())
    axes.set(ylim=(50, None), ylabel='% of 10,000 test images (axis from 50)', title='At the end')
    axes.legend(frameon=False, fontsize=7, ncol=2, loc='upper center', bbox_to_anchor=(0.5, -0.1))


def main():
    report = json.loads((HERE / 'weak_supervision.json').read_text())
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
    draw_curves(axes[0], report['rows'])
    draw_bars(axes[1], report['rows'])
    for each in axes:
        each.spines[['top', 'right']].set_visible(False)
    figure.savefig(HERE.parent / 'images' / 'weak_supervision.png', dpi=130)


if __name__ == '__main__':
    main()
