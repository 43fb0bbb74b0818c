"""Gain on new images against forgetting of old ones, both relative to the initial weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from mm_graft.evaluation.report import HEADLINE, read_report, run_names, save_figure, table

Change = tuple[float, float]  # points gained on the new images, on the old ones
MARKERS = 'os^D'  # another one where the ten colors begin again
FRAME = dict(color='#999999', linewidth=0.8, zorder=0)


def compare_kept(new: Sequence[str | Path], old: Sequence[str | Path], plot: str | Path | None = None) -> str:
    """Table, and with ``plot`` a figure, of gain and forgetting of each run; the first run is the start.

    ``new`` and ``old`` are folders of ``mm_graft evaluate --out`` on new and old images, of the same runs in one order.
    """
    if len(new) != len(old) or len(new) < 2:
        raise ValueError(f'{len(new)} runs on new images and {len(old)} on old ones; give both of the weights of the '
                         'start, then both of each run, in the same order')
    reports = [(read_report(one), read_report(other)) for one, other in zip(new, old)]
    for (one, other), folder in zip(reports, new):
        if one.get('checkpoint') != other.get('checkpoint'):
            raise ValueError(f'{folder} is of {one.get("checkpoint")}, its counterpart on the old images of '
                             f'{other.get("checkpoint")}; give both lists in the same order')
    shared = [name for name in reports[0][0]['protocols']
              if all(name in report['protocols'] for pair in reports for report in pair)]
    if not shared:
        raise ValueError('no protocol was run in all of them; evaluate with the same --protocols')
    names = run_names(new)
    if plot is not None:
        write_plot(reports, names, shared, plot)
    return kept_table(reports, names, shared)


def change_since(start: tuple[dict, dict], run: tuple[dict, dict], protocol: str) -> Change:
    """Points of top-1 accuracy that a run has more than the start."""
    return tuple(after['protocols'][protocol][HEADLINE] - before['protocols'][protocol][HEADLINE]
                 for before, after in zip(start, run))


def kept_table(reports: Sequence[tuple[dict, dict]], names: Sequence[str], protocols: Sequence[str]) -> str:
    """A row for each run and protocol: accuracy and change on the new images, and on the old ones."""
    rows = [('run', 'protocol', 'new', 'change', 'old', 'change')]
    for protocol in protocols:
        for name, pair in zip(names, reports):
            top1 = [report['protocols'][protocol][HEADLINE] for report in pair]
            change = change_since(reports[0], pair, protocol)
            shown = [f'{value:+.2f}' if pair is not reports[0] else '' for value in change]
            rows.append((name, protocol, f'{top1[0]:.2f}', shown[0], f'{top1[1]:.2f}', shown[1]))
    return table(rows)


def write_plot(reports: Sequence[tuple[dict, dict]], names: Sequence[str], protocols: Sequence[str],
               path: str | Path) -> None:
    """A panel for each protocol, a point with 95 % intervals of the accuracies for each run."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(5 * len(protocols), 4.5), layout='constrained')
    for axes, protocol in zip(figure.subplots(1, len(protocols), squeeze=False)[0], protocols):
        changes = {name: change_since(reports[0], pair, protocol) for name, pair in zip(names[1:], reports[1:])}
        for pair, change in zip(reports[1:], changes.values()):
            results = [report['protocols'][protocol] for report in pair]
            spans = [[[result[HEADLINE] - result['interval95'][0]], [result['interval95'][1] - result[HEADLINE]]]
                     for result in results]
            axes.errorbar(*change, xerr=spans[0], yerr=spans[1], color='#bbbbbb', linewidth=1, zorder=1)
        draw_changes(axes, {name: [change] for name, change in changes.items()})
        axes.set_title(protocol)
    save_figure(figure, path)


def draw_changes(axes, changes: Mapping[str, Sequence[Change]]) -> None:
    """A large point for the mean of each run, small ones for its seeds if there are several; the start is the cross.

    Up and right of the cross something was gained and nothing forgotten. A run keeps its color in figures of the same
    runs, also where it has no point.
    """
    axes.axhline(0, **FRAME)
    axes.axvline(0, **FRAME)
    for index, (name, points) in enumerate(changes.items()):
        if not points:
            continue
        color, mean = f'C{index}', [fmean(values) for values in zip(*points)]
        if len(points) > 1:
            axes.scatter(*zip(*points), s=14, color=color, alpha=0.5, linewidths=0)
        axes.scatter(*mean, s=70, color=color, marker=MARKERS[index // 10 % len(MARKERS)], label=name, zorder=3)
    axes.set(xlabel='new images: change of accuracy, points', ylabel='old images: change of accuracy, points')
    axes.legend(fontsize='small', frameon=False)
