"""Reports of several runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from mm_graft.evaluation.report import compare_table, plot_reports, read_report, run_names


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
