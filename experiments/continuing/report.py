"""The table and the figure of docs/continue.md, from docs/results/continuing.json alone."""

import json
import re
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure

from experiments.continuing.images import NEW, OLD, OWN
from experiments.continuing.rows import RATES, RULES
from experiments.continuing.scores import POOLS
from experiments.pages import mean_and_spread
from mm_graft.evaluation.kept import Change, draw_changes
from mm_graft.evaluation.report import write_json

RESULTS, FIGURE, PAGE = Path('results/continuing.json'), Path('images/continue.png'), Path('continue.md')
PLACE = re.compile(r'(<!-- table of python -m experiments.continuing -->\n).*?(<!-- end -->)', re.DOTALL)


def collect(out: Path, docs: Path) -> dict:
    """Put the scores that are there into one file, and return its content."""
    rows = [json.loads(path.read_text()) for path in sorted(out.glob('row_*.json')) if path.stem != 'row_start']
    order = list(RULES)
    results = {
        'data': f'{10 * OWN} images of {NEW} without labels, one epoch; kNN on 1,000 + 1,000 images of each data set',
        'torch': torch.__version__, 'start': json.loads((out / 'row_start.json').read_text()),
        'rows': sorted(rows, key=lambda row: (-row['rate'], order.index(row['rule']), row['seed']))}
    write_json(docs / RESULTS, results)
    return results


def change(row: dict, start: dict, pool: str) -> Change:
    """Points that a row has more than the start in the new and in the old domain."""
    return row[NEW][pool] - start[NEW][pool], row[OLD][pool] - start[OLD][pool]


def of_rule(results: dict, rule: str, rate: float) -> list[dict]:
    """The seeds of a rule at a rate."""
    return [row for row in results['rows'] if (row['rule'], row['rate']) == (rule, rate)]


def table(results: dict) -> str:
    """Markdown: accuracies of the start, then of each rule at each rate as mean ± deviation over the seeds."""
    columns = [(domain, pool) for domain in (NEW, OLD) for pool in POOLS]
    heads, start = [f'{domain}, {pool}' for domain, pool in columns], results['start']
    lines = [f'| rule | rate | seeds | {" | ".join(heads)} | CPU minutes |', '|---|---|---|' + '---:|' * 5,
             f'| public weights | | | {" | ".join(f"{start[domain][pool]:.1f}" for domain, pool in columns)} | |']
    for rate in sorted({row['rate'] for row in results['rows']}, reverse=True):
        for rule, title in RULES.items():
            if rows := of_rule(results, rule, rate):
                cells = [mean_and_spread([row[domain][pool] for row in rows]) for domain, pool in columns]
                minutes = fmean(row['cpu_seconds'] for row in rows) / 60
                lines.append(f'| {title} | {rate:g} | {len(rows)} | {" | ".join(cells)} | {minutes:.1f} |')
    return '\n'.join(lines) + '\n'


def draw(results: dict) -> Figure:
    """A panel for each pool: what each rule changed in the new domain and in the old one."""
    figure = Figure(figsize=(11, 4.6), layout='constrained')
    fastest = max(row['rate'] for row in results['rows'])
    for axes, pool in zip(figure.subplots(1, len(POOLS)), POOLS):
        draw_changes(axes, {
            title if rate == fastest else f'{title}, rate {rate:g}':
                [change(row, results['start'], pool) for row in of_rule(results, rule, rate)]
            for rate in sorted(RATES, reverse=True) for rule, title in RULES.items()})
        axes.set(title=f'{pool}, learning rate {fastest:g}', xlabel=f'{NEW}, the new domain: change of kNN, points',
                 ylabel=f'{OLD}, the old one: change of kNN, points')
    return figure


def write_report(docs: Path) -> None:
    """Figure and table of the page."""
    results = json.loads((docs / RESULTS).read_text())
    draw(results).savefig(docs / FIGURE, dpi=130)
    page = docs / PAGE
    text, count = PLACE.subn(lambda found: found[1] + table(results) + found[2], page.read_text())
    if count != 1:
        raise ValueError(f'{page} has {count} places for the table; keep the two comments around it')
    page.write_text(text)
