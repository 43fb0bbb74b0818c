"""Reports: JSON that is never half-written, a table, a plot; and several runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.files import atomic_write, read_small_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADLINE = 'top1'


def write_json(path: str | Path, content: dict | list) -> None:
    """Write a JSON file; it appears under its name only when complete."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def read_report(run: str | Path) -> dict:
    """The report of an evaluation: a ``report.json`` or the folder that holds one."""
    path = Path(run)
    path = path / 'report.json' if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f'{run} holds no report.json; give the --out folder of a finished mm_graft evaluate')
    report = read_small_json(path)
    if not isinstance(report, dict) or not isinstance(report.get('protocols'), dict):
        raise ValueError(f'{path} has no "protocols"; give the report of mm_graft evaluate')
    for name, result in report['protocols'].items():
        found = result if isinstance(result, dict) else {}
        interval = found.get('interval95')
        numbers = [found.get(HEADLINE), *(interval if isinstance(interval, list) else [])]
        if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f'{path}: the protocol {name!r} has no "{HEADLINE}" with an "interval95" of two numbers; '
                             'give the report of mm_graft evaluate')
    return report


def run_names(runs: Sequence[str | Path]) -> list[str]:
    """Names of the folders of reports, or full paths where names repeat."""
    paths = [Path(run) for run in runs]
    short = [path.parent.name if path.suffix == '.json' else path.name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join([lines[0], '  '.join('-' * width for width in widths), *lines[1:]])


def report_table(report: dict) -> str:
    """Protocol, top-1 accuracy, its 95 % interval and what matters about how it was reached."""
    rows = [('protocol', 'top-1 %', '95 % interval', 'how')]
    for name, result in report['protocols'].items():
        low, high = result['interval95']
        rows.append((name, f'{result[HEADLINE]:.2f}', f'{low:.2f} – {high:.2f}', _how(result)))
    return table(rows)


def compare_table(reports: dict[str, dict]) -> str:
    """Top-1 accuracies of several runs, a row each, a column for every protocol that any of them ran."""
    protocols = list(dict.fromkeys(name for report in reports.values() for name in report['protocols']))
    rows = [('run', *protocols)]
    for run, report in reports.items():
        results = (report['protocols'].get(name) for name in protocols)
        rows.append((run, *(f'{result[HEADLINE]:.2f}' if result else '–' for result in results)))
    return table(rows)


def compare(runs: Sequence[str | Path], plot: str | Path | None = None) -> str:
    """Table of the top-1 accuracies of runs (folders of ``mm_graft evaluate --out``, or their ``report.json``).

    With ``plot`` a figure, too: bars with intervals, and kNN over k.
    """
    reports = dict(zip(run_names(runs), map(read_report, runs)))
    if plot is not None:
        plot_reports(reports, plot)
    return '\n'.join([compare_table(reports), *_warnings(reports)])


def _warnings(reports: dict[str, dict]) -> list[str]:
    """Notes on reports that cannot be compared: different test images, or a head chosen on them."""
    lines = []
    tests = {(report.get('data', {}).get('test', {}).get('root'), report.get('data', {}).get('test', {}).get('images'))
             for report in reports.values()}
    if len(tests) > 1:
        lines.append('note: the runs were scored on different test sets')
    for run, report in reports.items():
        if report['protocols'].get('linear', {}).get('selected_on') == 'test images':
            lines.append(f'note: {run} chose its linear head on the test images')
    return lines


def plot_report(report: dict, path: str | Path) -> None:
    """Bars with 95 % intervals, one a protocol."""
    plot_reports({Path(report.get('checkpoint', 'run')).name: report}, path)


def plot_reports(reports: dict[str, dict], path: str | Path) -> None:
    """Bars of all runs, grouped by protocol, and beside them kNN over k and, where known, probing over depth."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(12, 4), layout='constrained')
    bars, curves = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_bars(bars, reports)
    _draw_curves(curves, reports)
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure in the format of the name's ending; it appears when complete."""
    with atomic_write(path) as part:
        figure.savefig(part, dpi=dpi, format=Path(path).suffix[1:] or 'png')


def _draw_bars(axes, reports: dict[str, dict]) -> None:
    protocols = list(dict.fromkeys(name for report in reports.values() for name in report['protocols']))
    width = 0.8 / len(reports)
    for position, (run, report) in enumerate(reports.items()):
        known = [(column, report['protocols'][name]) for column, name in enumerate(protocols)
                 if name in report['protocols']]
        places = [column + (position - (len(reports) - 1) / 2) * width for column, _ in known]
        heights = [result[HEADLINE] for _, result in known]
        errors = [[max(0.0, result[HEADLINE] - result['interval95'][0]) for _, result in known],
                  [max(0.0, result['interval95'][1] - result[HEADLINE]) for _, result in known]]
        axes.bar(places, heights, width, yerr=errors, capsize=3, label=run)
    axes.set_xticks(range(len(protocols)), protocols)
    axes.set_ylabel('top-1 accuracy, % (95 % interval)')
    axes.legend()


def _draw_curves(axes, reports: dict[str, dict]) -> None:
    for run, report in reports.items():
        by_k = report['protocols'].get('knn', {}).get('top1_by_k', {})
        points = sorted((int(k), accuracy) for k, accuracy in by_k.items())
        if points:
            axes.plot(*zip(*points), marker='o', label=run)
    axes.set_xscale('log')
    axes.set_xlabel('k')
    axes.set_ylabel('kNN top-1 accuracy, %')
    if axes.lines:
        axes.legend()


def _how(result: dict) -> str:
    shown = ('k', 'base_lr', 'weight_decay', 'selected_on', 'train_images', 'images_per_class', 'splits', 'block',
             'features', 'classes')
    values = {name: result[name] for name in shown if name in result}
    return ', '.join(f'{name.replace("_", " ")} {value:.3g}' if isinstance(value, float) else
                     f'{name.replace("_", " ")} {value}' for name, value in values.items())
