"""Programs that take steps in turns with ours, one after the other, timed by the processor time that they use."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from benchmarks.measure import quartiles


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
HEADER = ('| method | program | ms (ours) | × ours (quartiles) | loaded | variant | × ours (quartiles) | loaded |',
          '|---|---|---:|---:|---:|---|---:|---:|')


@dataclass(frozen=True)
class Row:
    """What was measured of a program beside ours.

    Attributes:
        program: whose it is.
        variant: what was changed about it, if anything.
        ms: of a step, the least of all rounds.
        ours_ms: of ours in the same rounds.
        ratio: quartiles of its time over ours, round by round.
        loaded_ratio: the same of loading and step together; None where nothing is loaded.
    """

    program: str
    variant: str
    ms: float
    ours_ms: float
    ratio: list[float]
    loaded_ratio: list[float] | None


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


def beside_ours(entries: Iterable[Entry], rounds: int,
                clock: Callable[[], float] = time.process_time) -> Iterator[Row]:
    """A row for each entry beside the first one, ours; an entry is gone before the next is asked for."""
    entries = iter(entries)
    ours = next(entries)
    for entry in entries:
        yield compare(entry, *take_turns((ours, entry), rounds, clock))
        del entry
        gc.collect()


def compare(entry: Entry, ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> Row:
    """The row of an entry, of seconds of step and load in each round."""
    def ratio(of: Callable) -> list[float]:
        return quartiles([of(other) / of(own) for other, own in zip(theirs, ours, strict=True)])

    least, ours_least = (1000 * min(step for step, _ in taken) for taken in (theirs, ours))
    return Row(entry.name, entry.variant, least, ours_least, ratio(itemgetter(0)), ratio(sum) if entry.load else None)


def lines(method: str, rows: Iterable[Row]) -> list[str]:
    """A line of the table for each program: as it is and, beside that, its other variant."""
    made = []
    for program, variants in groupby(rows, key=lambda row: row.program):
        first, *others = variants
        cells = [method, program, f'{first.ms:.0f} ({first.ours_ms:.0f})', *_ratios(first)]
        for other in others:
            cells += [other.variant, *_ratios(other)]
        made.append(f'| {" | ".join(cells + (8 - len(cells)) * [""])} |')
    return made


def table(caption: str, found: Iterable[list[str]]) -> str:
    """The table of the lines of each method, below what is said of how they were measured."""
    return '\n'.join([caption, '', *HEADER, *chain.from_iterable(found)])


def lines_of(text: str, caption: str, methods: Iterable[str]) -> dict[str, list[str]]:
    """Lines of some methods in a table.

    Raises:
        ValueError: there are such lines, and they were not measured as ``caption`` says.
    """
    found = {method: [line for line in text.splitlines() if line.startswith(f'| {method} |')] for method in methods}
    if any(found.values()) and not text.startswith(f'{caption}\n'):
        raise ValueError(f'the table was measured otherwise than "{caption}"; measure all methods')
    return found


def _ratios(row: Row) -> list[str]:
    low, middle, high = row.ratio
    return [f'{middle:.2f} ({low:.2f}–{high:.2f})', f'{row.loaded_ratio[1]:.2f}' if row.loaded_ratio else '–']
