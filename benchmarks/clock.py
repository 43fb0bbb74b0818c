"""Time by phase, on the device's own clock, without waiting for the device between the phases."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import torch

Mark = float | torch.cuda.Event


class PhaseClock:
    """Milliseconds of nested phases; a phase does not count what the phases inside it take.

    ``torch.utils.benchmark`` times whole statements, and ``torch.profiler`` records every operator, which slows a step.

    On a GPU the marks are events in its queue, read after the last step, so measuring does not change what is measured.

    Args:
        device: whose time is measured.
    """

    def __init__(self, device: torch.device | str = 'cpu'):
        self.on_gpu = torch.device(device).type == 'cuda'
        self._steps: list[list[tuple[str, Mark, Mark, list]]] = []
        self._open: list[list] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what is inside as ``name``; the outermost phase is a step."""
        start, children = self._now(), []
        self._open.append(children)
        yield
        self._open.pop()
        record = (name, start, self._now(), children)
        if self._open:
            self._open[-1].append(record)
        else:
            self._steps.append([record])

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, each of whose calls is a phase."""
        @wraps(function)
        def call(*args, **kwargs):
            with self.phase(name):
                return function(*args, **kwargs)
        return call

    def steps(self) -> list[dict[str, float]]:
        """Each step so far: phase → milliseconds; together they are the whole step."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return [self._exclusive(step) for step in self._steps]

    def _exclusive(self, records: list[tuple]) -> dict[str, float]:
        times: dict[str, float] = defaultdict(float)
        for name, start, end, children in records:
            times[name] += self._elapsed(start, end) - sum(self._elapsed(*child[1:3]) for child in children)
            for inner, value in self._exclusive(children).items():
                times[inner] += value
        return dict(times)

    def _now(self) -> Mark:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _elapsed(self, start: Mark, end: Mark) -> float:
        return start.elapsed_time(end) if self.on_gpu else 1000 * (end - start)
