"""Programs that take steps in turns, timed by the processor time that they use."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """What all programs of a row have in common.

    Attributes:
        side: of the images, in pixels.
        batch: images a step.
        width: of the encoder, a name of ``benchmarks.table.WIDTHS``.
        blocks: of the encoder.
        photos: JPEGs from which the loaders make batches.
    """

    side: int
    batch: int
    width: str
    blocks: int
    photos: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A program that takes part.

    Attributes:
        name: whose it is.
        variant: what was changed about it, if anything.
        step: takes one step on a batch that is there.
        load: makes a batch from files; None where nothing is loaded.
    """

    name: str
    variant: str
    step: Callable[[], object]
    load: Callable[[], object] | None = None


OURS = 'mm_graft'


def seconds(function: Callable[[], object] | None, clock: Callable[[], float] = time.process_time) -> float:
    """Processor time of a call; 0 without a function."""
    if function is None:
        return 0.0
    start = clock()
    function()
    return clock() - start


def take_turns(entries: Sequence[Entry], rounds: int,
               clock: Callable[[], float] = time.process_time) -> list[list[tuple[float, float]]]:
    """Seconds of step and load of each entry in each round, after one step of each that does not count.

    Each round begins with another entry, so that none always follows the same one.
    """
    for entry in entries:
        seconds(entry.step)
        seconds(entry.load)
    times: list[list[tuple[float, float]]] = [[] for _ in entries]
    for number in range(rounds):
        for place in range(len(entries)):
            index = (number + place) % len(entries)
            entry = entries[index]
            times[index].append((seconds(entry.step, clock), seconds(entry.load, clock)))
    return times


def ratios(others: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Lowest, median and highest of their time over ours, round by round."""
    values = sorted(other / own for other, own in zip(others, ours, strict=True))
    return [values[0], statistics.median(values), values[-1]]


def results(method: str, entries: Sequence[Entry], times: Sequence[Sequence[tuple[float, float]]]) -> list[dict]:
    """A row an entry: milliseconds (the least of all rounds), and its time over ours without and with loading."""
    ours = times[next(index for index, entry in enumerate(entries) if entry.name == OURS)]
    return [{
        'method': method, 'program': entry.name, 'variant': entry.variant,
        'ms': 1000 * min(step for step, _ in taken),
        'load_ms': 1000 * min(load for _, load in taken) if entry.load else None,
        'ratio': ratios([step for step, _ in taken], [step for step, _ in ours]),
        'loaded_ratio': ratios([sum(both) for both in taken], [sum(both) for both in ours]) if entry.load else None,
    } for entry, taken in zip(entries, times, strict=True)]


def markdown(rows: Sequence[dict]) -> str:
    """A row a program: as it is and, beside that, its other variant; ours only if it has one."""
    lines = ['| method | program | ms (ours) | × ours (range) | loaded | variant | × ours (range) | loaded |',
             '|---|---|---:|---:|---:|---|---:|---:|']
    ours = 0.0
    for (method, program), variants in groupby(rows, key=lambda row: (row['method'], row['program'])):
        first, *others = variants
        if program == OURS:
            ours = first['ms']
            if not others:
                continue
        cells = [method, program, f'{first["ms"]:.0f} ({ours:.0f})', *_ratios(first)]
        for other in others:
            cells += [other['variant'], *_ratios(other)]
        lines.append(f'| {" | ".join(cells + (8 - len(cells)) * [""])} |')
    return '\n'.join(lines)


def _ratios(row: dict) -> list[str]:
    low, middle, high = row['ratio']
    loaded = row['loaded_ratio']
    return [f'{middle:.2f} ({low:.2f}–{high:.2f})', f'{loaded[1]:.2f}' if loaded else '–']
