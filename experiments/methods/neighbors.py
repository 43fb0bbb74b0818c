"""How often a neighbor is of the same class while the refiner trains: the useful signal, as its loss says little."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from experiments.training import logged_lines

PREFIX = 'acc_neighbor_block'
WINDOW = 12
Curve = list[tuple[int, float]]  # images seen, percent


def logged(run: Path, batch_size: int) -> dict[str, Curve]:
    """The curve of every head of a run, by block, an interrupted run put together; none before it has logged."""
    curves: dict[str, Curve] = {}
    for line in logged_lines(run):
        for name, value in line.items():
            if name.startswith(PREFIX):
                curves.setdefault(name.removeprefix(PREFIX), []).append((line['step'] * batch_size, value))
    return curves


def joined(stages: Sequence[dict[str, Curve]]) -> dict[str, Curve]:
    """Stages one after the other, on one axis of images."""
    curves: dict[str, Curve] = {}
    start = 0
    for stage in stages:
        for block, points in stage.items():
            curves.setdefault(block, []).extend((start + images, value) for images, value in points)
        start += max((points[-1][0] for points in stage.values()), default=0)
    return curves


def smooth(points: Curve) -> Curve:
    """Means of ``WINDOW`` points in a row: one is of one batch and says little."""
    rows = [points[start:start + WINDOW] for start in range(0, max(1, len(points) - WINDOW + 1))]
    return [(row[-1][0], fmean(value for _, value in row)) for row in rows]


def draw(curves: Mapping[int, dict[str, Curve]]) -> Figure:
    """A line for every block, a shade for every seed."""
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    for position, by_block in enumerate(curves.values()):
        for index, (block, points) in enumerate(sorted(by_block.items(), key=lambda item: int(item[0]))):
            axes.plot(*zip(*smooth(points)), color=f'C{index}', alpha=1 if position == 0 else 0.4,
                      label=f'block {int(block) + 1}' if position == 0 else None)
    axes.set(xlabel='images', ylabel='neighbors of the same class, %')
    axes.legend()
    return figure
