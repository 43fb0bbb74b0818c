"""What freezing saves: predicted at each event, measured over the run."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from torch import nn

from mm_graft.engine.freezing.saved_bytes import SavedBytes


def encoder_step_cost(frozen_blocks: int, num_blocks: int) -> float:
    """FLOPs of an encoder step with a frozen prefix, as a share of the unfrozen step.

    A block costs 1 forward and 2 backward (activations, weights), a frozen one its forward only; the stem is nearly
    free. So each frozen block costs ⅓ of a trained one.
    """
    return 1 - 2 * frozen_blocks / (3 * num_blocks)


class RunCost(NamedTuple):
    """Cost of a run with frozen prefixes, as shares of the same run without."""

    flops: float  #: of the encoder
    trained: float  #: mean share of the blocks that train: their activations are kept, their gradients exchanged


def run_cost(frozen_at: Mapping[int, float], num_blocks: int, end: float) -> RunCost:
    """The cost of a whole run: :func:`encoder_step_cost` over its length.

    ``frozen_at`` says from which time a depth (stem 0, block i at i + 1) no longer trains, in the unit of ``end``.
    """
    blocks = sorted(min(time, end) for depth, time in frozen_at.items() if 1 <= depth <= num_blocks)
    frozen = sum(end - time for time in blocks) / (num_blocks * end)  # share of block-steps
    return RunCost(encoder_step_cost(1, 1) * frozen + 1 - frozen, 1 - frozen)


class SavingsMeter:
    """Seconds an iteration and bytes of saved activations, for each frozen depth of a run.

    In each state of freezing the first iteration warms up, the second is measured for memory, the rest for time. Its
    ``records`` are plain numbers, so that a checkpoint can carry them over a resume.

    Args:
        records: frozen depth → ``{'iterations', 'seconds', 'timed', 'saved_bytes'}`` of the run so far.
    """

    def __init__(self, records: dict[int, dict] | None = None):
        self.records = records if records is not None else {}
        self._stack = ExitStack()
        self._depth: int | None = None
        self._since_change = 0

    def start(self, model: nn.Module, frozen_depth: int) -> None:
        """Before an iteration of a model whose prefix of ``frozen_depth`` is frozen."""
        if frozen_depth != self._depth:
            self._depth, self._since_change = frozen_depth, 0
            empty = {'iterations': 0, 'seconds': 0., 'timed': 0, 'saved_bytes': None}
            self.records.setdefault(frozen_depth, empty)
        self._counter = SavedBytes(model) if self._since_change == 1 else None
        if self._counter:
            self._stack.enter_context(self._counter())
        self._started = time.perf_counter()

    def stop(self) -> None:
        """After the iteration."""
        seconds = time.perf_counter() - self._started
        self._stack.close()
        record = self.records[self._depth]
        record['iterations'] += 1
        if self._counter:
            record['saved_bytes'] = self._counter.total
        elif self._since_change > 1:
            record['seconds'] += seconds
            record['timed'] += 1
        self._since_change += 1

    def summary(self) -> str:
        """Time and activation memory against the state with which the run began."""
        timed = {depth: record for depth, record in self.records.items() if record['timed']}
        if len(timed) < 2:
            return 'too few iterations before and after the first event to compare'
        first, last = timed[min(timed)], timed[max(timed)]
        pace = first['seconds'] / first['timed']
        unfrozen = sum(record['iterations'] for record in timed.values()) * pace
        spent = sum(record['iterations'] * record['seconds'] / record['timed'] for record in timed.values())
        mebibytes = [record['saved_bytes'] / 2**20 for record in (first, last)]
        return (f'{unfrozen - spent:.1f} s of {unfrozen:.1f} s of training iterations saved '
                f'({1 - spent / unfrozen:.1%}) against the pace before the first event; '
                f'saved activations {mebibytes[0]:.1f} MiB a step at first, {mebibytes[1]:.1f} MiB at the end')
