"""Results of the CIFAR-10 experiment: one JSON file; out of it a page, figures and a table of docs/results.md."""

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from benchmarks.page import put
from experiments.cifar10.rows import EQUAL_FLOPS, EQUAL_IMAGES, LOCAL, LONG, PIXELS_OR_CONTRAST, ROWS, WHY, Job, needed
from experiments.demo.report import PACKAGES, device_name
from experiments.pages import mean_and_spread
from mm_graft.evaluation.report import write_json

PROTOCOLS = {'knn': 'kNN', 'linear': 'linear', 'fewshot-1': '1 %', 'fewshot-10': '10 %', 'finetune': 'fine-tuned'}
FROZEN = ('knn', 'linear', 'fewshot-1')
COLORS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377')
POOLS = {'cls': 'class token', 'avg': 'mean of patches'}


def seed_result(folder: Path) -> dict:
    """What one run has left: scores by epoch and pooling, scores after fine-tuning, seconds and commit."""
    result = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('epoch*-*.json'))}
    for protocol in ('fewshot-10', 'finetune'):
        if (folder / f'{protocol}.json').is_file():
            result.update(json.loads((folder / f'{protocol}.json').read_text()))
    if (folder / 'seconds.txt').is_file():
        result['seconds'] = float((folder / 'seconds.txt').read_text())
    if (folder / 'commit.txt').is_file():
        result['commit'] = (folder / 'commit.txt').read_text()
    return result


def results_file(docs: Path, scale: str) -> Path:
    """Where the results of a size are kept."""
    return docs / 'results' / f'cifar10_{scale}.json'


def write_results(run: object, docs: Path) -> dict:
    """Collect what the runs have left into the file of their size, and return it."""
    rows = {}
    for name in ROWS:
        folders = sorted((run.out / name).glob('seed*'))
        seeds = {folder.name.removeprefix('seed'): seed_result(folder) for folder in folders
                 if run.is_done(Job(name, int(folder.name.removeprefix('seed'))))}
        if seeds:
            rows[name] = {
                'epochs': run.costs.epochs(name), 'tflops': round(run.costs.tflops(name), 2),
                'gflops_per_image': round(run.costs.gflops_per_image(name), 4),
                'images': run.costs.images * sum(run.costs.epochs(step) for step in needed(name)), 'seeds': seeds}
    results = {'scale': run.scale, 'device': device_name(),
               'versions': {package: version(package) for package in PACKAGES},
               'images': run.costs.images, 'rows': rows}
    write_json(results_file(docs, run.scale), results)
    return results


def scores(results: dict, row: str, protocol: str, pool: str = 'cls', epoch: int | None = None) -> list[float]:
    """A row's percentages, one a seed."""
    found = results['rows'].get(row, {'seeds': {}})
    values = []
    for seed in found['seeds'].values():
        place = seed.get(f'epoch{epoch or found["epochs"]}-{pool}', {}) if protocol in FROZEN else seed
        if protocol in place:
            values.append(place[protocol])
    return values


def table(results: dict, rows: Sequence[str], protocols: Sequence[str], pool: str = 'cls') -> str:
    """Markdown table of some rows that have been run."""
    names = [PROTOCOLS[protocol] for protocol in protocols]
    lines = ['| method | images seen | TFLOP | seeds | ' + ' | '.join(names) + ' |',
             '|---|---:|---:|---:|' + '---:|' * len(names)]
    for name in rows:
        if row := results['rows'].get(name):
            cells = ' | '.join(mean_and_spread(scores(results, name, protocol, pool)) for protocol in protocols)
            lines.append(f'| {ROWS[name].title} | {row["images"] // 1000}k | {row["tflops"]:.1f} | {len(row["seeds"])} '
                         f'| {cells} |')
    return '\n'.join(lines)


def by_pool(results: dict, rows: Sequence[str]) -> str:
    """A table for each way to make a feature of the tokens."""
    return '\n\n'.join(f'{title}:\n\n{table(results, rows, FROZEN, pool)}' for pool, title in POOLS.items())


def stops_of(results: dict, row: str) -> list[int]:
    """Epochs after which a row was evaluated."""
    names = next(iter(results['rows'][row]['seeds'].values()))
    return sorted({int(match[1]) for match in map(re.compile(r'epoch(\d+)-').match, names) if match})


def local_table(results: dict) -> str:
    """LocalMIM, the same stopped early, and with FreezeOut, by what they cost."""
    lines = ['| method | TFLOP | kNN | linear | 1 % |', '|---|---:|---:|---:|---:|']
    for name in LOCAL:
        row = results['rows'].get(name)
        for stop in stops_of(results, name) if row else ():
            share = stop / row['epochs']
            title = ROWS[name].title + (f', stopped after {stop} of {row["epochs"]} epochs' if share < 1 else '')
            cells = ' | '.join(mean_and_spread(scores(results, name, protocol, 'avg', stop)) for protocol in FROZEN)
            lines.append(f'| {title} | {row["tflops"] * share:.2f} | {cells} |')
    return '\n'.join(lines)


def run_facts(results: dict) -> str:
    """Machine, commit, versions and times of what was run."""
    rows = results['rows']
    seconds = sum(seed.get('seconds', 0) for row in rows.values() for seed in row['seeds'].values())
    runs = sum(len(row['seeds']) for row in rows.values())
    commits = {seed['commit'] for row in rows.values() for seed in row['seeds'].values() if 'commit' in seed}
    versions = ', '.join(f'{name} {number}' for name, number in results['versions'].items())
    return (f'{runs} runs on {results["device"]}, {seconds / 60:.0f} minutes of training '
            f'in all. Commit {" and ".join(sorted(commits)) or "unknown"}; {versions}.')


def page(results: dict) -> str:
    """What was run, and a table for each question whose row in the first place is there."""
    tables = {
        ('mae', 'Equal images seen'): table(results, ('random', *EQUAL_IMAGES, 'mae-half', 'mocov3-half'),
                                            list(PROTOCOLS)),
        ('mae-flops', 'Equal FLOPs'): table(results, EQUAL_FLOPS, FROZEN),
        ('mae-half', 'What decides'): table(results, WHY, FROZEN),
        ('mae-ten', 'On a long MAE'): by_pool(results, LONG),
        ('localmim', 'LocalMIM, FreezeOut and stopping early'): local_table(results),
        ('conmim', 'ConMIM against MAE'): by_pool(results, PIXELS_OR_CONTRAST),
    }
    scale = results['scale']
    command = f'python -m experiments.cifar10 --scale {scale}'
    title = f'# CIFAR-10, size `{scale}`\n\nMade by `{command}`. {run_facts(results)}'
    found = [f'## {name}\n\n{text}' for (row, name), text in tables.items() if row in results['rows']]
    return '\n\n'.join([title, *found]) + '\n'


def draw_methods(results: dict) -> Figure:
    """Every seed of the rows at equal images as a dot, their mean as a line, one panel a frozen protocol."""
    rows = [name for name in ('random', *EQUAL_IMAGES) if name in results['rows']]
    figure = Figure(figsize=(10, 3), layout='constrained')
    for axes, protocol in zip(figure.subplots(1, 3, sharey=True), FROZEN):
        for place, name in enumerate(reversed(rows)):
            values = scores(results, name, protocol)
            color = COLORS[EQUAL_IMAGES.index(name)] if name in EQUAL_IMAGES else '#777777'
            axes.plot(values, [place] * len(values), 'o', color=color, alpha=0.6, markersize=6)
            axes.plot(fmean(values), place, '|', color=color, markersize=22, markeredgewidth=2.5)
        axes.set(title=f'{PROTOCOLS[protocol]}, % correct', yticks=range(len(rows)), ylim=(-0.7, len(rows) - 0.3))
        axes.set_yticklabels([ROWS[name].title for name in reversed(rows)])
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='x', alpha=0.25)
    return figure


def draw_compute(results: dict) -> Figure:
    """Accuracy over cost: LocalMIM stopped after some epochs as a line, FreezeOut as points."""
    figure = Figure(figsize=(10, 3.2), layout='constrained')
    panels = figure.subplots(1, 3)
    for axes, protocol in zip(panels, FROZEN):
        for color, marker, name in zip(COLORS, 'osD^vP', LOCAL):
            if row := results['rows'].get(name):
                stops = stops_of(results, name)
                values = [fmean(scores(results, name, protocol, 'avg', stop)) for stop in stops]
                costs = [row['tflops'] * stop / row['epochs'] for stop in stops]
                label = ROWS[name].title + (', stopped early or not' if len(stops) > 1 else '')
                axes.plot(costs, values, f'{marker}-', color=color, label=label, alpha=0.75)
        axes.set(title=f'{PROTOCOLS[protocol]}, % correct', xlabel='TFLOP of the pre-training')
        axes.spines[['top', 'right']].set_visible(False)
    if panels[0].lines:
        figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False)
    return figure


def write_report(results: dict, docs: Path) -> None:
    """Write page and figures beside the JSON file, and a table into docs/results.md if that has a place for it."""
    folder = results_file(docs, results['scale']).with_suffix('')
    folder.mkdir(parents=True, exist_ok=True)
    folder.with_suffix('.md').write_text(page(results))
    overview, name = docs / 'results.md', f'cifar10-{results["scale"]}'
    if overview.is_file() and f'<!-- {name} -->' in overview.read_text():
        put(overview, name, table(results, LONG, FROZEN))
    if set(EQUAL_IMAGES) <= set(results['rows']):
        draw_methods(results).savefig(folder / 'methods.png', dpi=130)
    if 'localmim' in results['rows']:
        draw_compute(results).savefig(folder / 'compute.png', dpi=130)
