"""Loss and learning rates of a finished or running training, read from the file that the host writes beside its log."""

import json
import re
from pathlib import Path

from matplotlib.figure import Figure

LOSS = 'loss'
RATE = 'lr'
RATE_OF_PART = re.compile(r'(stage|depth)\d+_lr')  # as mm_graft.StageLRLoggerHook logs it


def read_scalars(work_dir: str | Path, name: str = LOSS) -> list[dict]:
    """The logged values of a run and of what it was resumed from, by step; the latest value of each counts.

    Args:
        work_dir: with ``TIMESTAMP/vis_data/scalars.json`` of each start.
        name: of a value; only lines that have it are read, so that those of training, which are numbered by
            iterations, and those of evaluations, by epochs, stay apart.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{work_dir} has no */vis_data/scalars.json; give the work folder of a training')
    by_step = {}
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        lines = [line for line in lines if 'step' in line and name in line]
        if lines:  # a resumed run repeats what came after its checkpoint
            by_step = {step: line for step, line in by_step.items() if step < lines[0]['step']}
        by_step.update({line['step']: line for line in lines})
    return [by_step[step] for step in sorted(by_step)]


def draw_curves(runs: dict[str, list[dict]]) -> Figure:
    """Above the loss of every run, below its learning rates: those of stages or depths where they were logged."""
    figure = Figure(figsize=(4.2 * len(runs), 4.4), layout='constrained')
    axes = figure.subplots(2, len(runs), squeeze=False, sharex='col')
    for column, (name, lines) in enumerate(runs.items()):
        steps = [line['step'] for line in lines]
        axes[0, column].plot(steps, [line[LOSS] for line in lines], color='C0')
        axes[0, column].set(title=name, ylabel='loss' if column == 0 else None)
        for key in rate_keys(lines):
            axes[1, column].plot(steps, [line.get(key) for line in lines], label=key.removesuffix('_lr'))
        axes[1, column].set(xlabel='iteration', ylabel='learning rate' if column == 0 else None)
        axes[1, column].legend(fontsize=7, frameon=False)
    return figure


def draw_measures(runs: dict[str, list[dict]], titles: dict[str, str]) -> Figure:
    """A panel for each measure (name in the log → title), a line for each run that logged it over its epochs."""
    figure = Figure(figsize=(3.6 * len(titles), 2.8), layout='constrained')
    for axes, (key, title) in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles.items()):
        for name, lines in runs.items():
            known = [line for line in lines if key in line]
            axes.plot([line['step'] for line in known], [line[key] for line in known], marker='.', label=name)
        axes.set(title=title, xlabel='epoch')
    figure.axes[0].legend(fontsize=7, frameon=False)
    return figure


def rate_keys(lines: list[dict]) -> list[str]:
    """Names of the logged learning rates: those of the stages or depths, else the host's one."""
    keys = {key for line in lines for key in line}
    return sorted(filter(RATE_OF_PART.fullmatch, keys)) or ([RATE] if RATE in keys else [])
