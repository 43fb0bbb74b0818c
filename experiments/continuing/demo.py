"""The demo of continuing: a public ViT-S/14 on 1,500 images of CIFAR-10, all layers at one rate, and the lower frozen.

Nearest neighbors are asked for every few steps, on CIFAR-10 and on Fashion-MNIST, which the encoder should not forget.
Writes OUT/report.json, OUT/report.md and OUT/report.png; an interrupted call goes on with what is missing.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from experiments.continuing.__main__ import OWN_LIST, prepare
from experiments.continuing.images import NEW, OLD, Domain
from experiments.continuing.rows import RULES, WEIGHTS, Row, score_file
from experiments.continuing.scores import POOLS
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json
from mm_graft.progress import Progress

RATE, SEED = 1e-3, 0
SHOWN = {'one_rate': '#cc6677', 'frozen': '#228833'}
BATCH, STEPS = 32, (15, 30, 45)  # an epoch has 46 steps
Curve = list[dict]  # scores by number of images seen


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo_continue'))
    return parser.parse_args()


def curve(rule: str, out: Path, start: dict, domains: dict[str, Domain]) -> Curve:
    """Train by a rule, unless that has been done, and score it on the way; only the scores are kept."""
    note, row = out / f'{rule}.json', Row(rule, RATE, SEED, out)
    if not note.is_file():
        row.train(['default_hooks.checkpoint.by_epoch=False', f'default_hooks.checkpoint.interval={STEPS[0]}',
                   'default_hooks.checkpoint.max_keep_ckpts=-1'])
        files = {step * BATCH: row.folder / f'iter_{step}.pth' for step in STEPS}
        write_json(note, [{'images': 0, **start}, *(
            {'images': images, **score_file(file, domains, 'test')}
            for images, file in Progress(files.items(), desc=f'{"evaluation":>20}', unit='encoder'))])
        for file in files.values():
            file.unlink()
    return json.loads(note.read_text())


def table(curves: Mapping[str, Curve]) -> str:
    """The first and the last point of each curve, as Markdown."""
    columns = [(domain, pool) for domain in (NEW, OLD) for pool in POOLS]
    lines = [f'| kNN, % | {" | ".join(f"{domain}, {pool}" for domain, pool in columns)} |', '|---' + '|---:' * 4 + '|']
    ends = {'public weights': next(iter(curves.values()))[0], **{RULES[rule]: points[-1] for rule, points
                                                                 in curves.items()}}
    for title, point in ends.items():
        lines.append(f'| {title} | {" | ".join(f"{point[domain][pool]:.1f}" for domain, pool in columns)} |')
    return '\n'.join(lines) + '\n'


def draw(curves: Mapping[str, Curve], pool: str = POOLS[0]) -> Figure:
    """A panel for each domain, a line for each rule over the images seen."""
    figure = Figure(figsize=(8, 3.4), layout='constrained')
    for axes, (domain, what) in zip(figure.subplots(1, 2), {NEW: 'it learns from these', OLD: 'it should know '
                                                            'these still'}.items()):
        for rule, points in curves.items():
            axes.plot([point['images'] for point in points], [point[domain][pool] for point in points], marker='o',
                      color=SHOWN[rule], label=RULES[rule], linewidth=2)
        axes.axhline(points[0][domain][pool], color='#999999', linestyle=':', zorder=0)
        axes.set(title=f'{domain}: {what}', xlabel=f'images of {NEW} seen', ylabel='kNN, %')
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].legend(frameon=False, loc='center right')
    return figure


def main() -> None:
    args = parse_args()
    begin = time.time()
    with guarded():
        init_default_scope('mmpretrain')
        MMLogger.get_current_instance().setLevel('ERROR')
        args.out.mkdir(parents=True, exist_ok=True)
        domains = prepare(OWN_LIST)
        start = score_file(WEIGHTS, domains, 'test')
        curves = {rule: curve(rule, args.out, start, domains) for rule in SHOWN}
        minutes = (time.time() - begin) / 60
        write_json(args.out / 'report.json', {'rate': RATE, 'seed': SEED, 'torch': torch.__version__,
                                              'minutes_of_last_call': minutes, 'curves': curves})
        draw(curves).savefig(args.out / 'report.png', dpi=130)
        text = table(curves) + f'\nLearning rate {RATE:g}, one epoch of {STEPS[-1] * BATCH} images, seed {SEED}.\n'
        (args.out / 'report.md').write_text(text)
        print(f'\n{text}\n{minutes:.1f} minutes; see {args.out}/report.md, report.json and report.png')


if __name__ == '__main__':
    main()
