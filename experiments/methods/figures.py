"""Figures of the experiment: accuracy over operations, and what a graft's settings do to it."""

from collections.abc import Mapping
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.methods.rows import TITLES

SCORES = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 %'}
POOLS = {'cls': 'class token', 'avg': 'mean of patches'}
MARKERS = 'osD^vP'
# by panel: the rows of each curve, by its place on the axis
CHOICES = {
    "MAE's images, thousands": {
        'MAE': {240: 'mae_shorter', 480: 'mae', 600: 'mae_images', 960: 'mae_flops'},
        'graft on it': {240: 'graft_shorter', 480: 'graft_images', 960: 'graft_longer'}},
    'rate of the lower two thirds': {
        'graft': {'0': 'graft_frozen', '0.1': 'graft_images', '1': 'graft_one_rate'}},
    'frozen blocks': {
        'graft': {'0': 'graft_one_rate', '2': 'graft_frozen_third', '4': 'graft_frozen'}},
    'weight of the anchor': {
        'graft': {'0': 'graft_images', '1e-4': 'graft_anchored', '1e-3': 'graft_anchored_more'}},
}


def values(row: Mapping, pool: str, score: str) -> list[float]:
    """A row's percentages, one a seed."""
    return [seed[pool][score] for seed in row['seeds'].values()]


def best(row: Mapping, score: str) -> tuple[float, tuple[list[float], list[float]]]:
    """Mean of a row's seeds by its better pool, and how far the lowest and the highest of them lie from it."""
    found = max((values(row, pool, score) for pool in POOLS), key=fmean)
    return fmean(found), ([fmean(found) - min(found)], [max(found) - fmean(found)])


def clear(axes: Axes) -> None:
    """Take away what says nothing."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25)


def draw_costs(results: Mapping) -> Figure:
    """Accuracy over operations: a cross of mean and range for every trained row, the better pool of each."""
    figure = Figure(figsize=(11, 5), layout='constrained')
    panels = figure.subplots(1, 2)
    trained = {name: row for name, row in results['rows'].items() if row['images']}
    for axes, score in zip(panels, ('knn', 'linear')):
        for place, (name, row) in enumerate(trained.items()):
            mean, spread = best(row, score)
            axes.errorbar(row['tflops'], mean, spread, fmt=MARKERS[place % len(MARKERS)], capsize=3,
                          color=f'C{place % 10}', label=TITLES[name])
        axes.set(title=f'{SCORES[score]}, % of the test images', xlabel='TFLOP of the pre-training')
        clear(axes)
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False)
    return figure


def draw_choices(results: Mapping) -> Figure:
    """Accuracy over each setting of ``CHOICES``, mean and range over the seeds, the better pool of each row."""
    figure = Figure(figsize=(12, 5.5), layout='constrained')
    panels = figure.subplots(2, len(CHOICES), sharey='row', sharex='col')
    for axes, setting in zip(panels[-1], CHOICES):
        axes.set_xlabel(setting)
    for score, line in zip(('knn', 'linear'), panels):
        for axes, curves in zip(line, CHOICES.values()):
            for marker, (label, rows) in zip(MARKERS, curves.items()):
                places = [place for place, name in rows.items() if name in results['rows']]
                found = [best(results['rows'][rows[place]], score) for place in places]
                spread = [[spread[side][0] for _, spread in found] for side in (0, 1)]
                axes.errorbar(places, [mean for mean, _ in found], spread, fmt=f'{marker}-', capsize=3, label=label)
            clear(axes)
            if len(curves) > 1:
                axes.legend(frameon=False)
        line[0].set_ylabel(f'{SCORES[score]}, %')
    return figure
