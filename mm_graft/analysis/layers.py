"""Plotting the scores of every block, and proposing blocks for heads, graft and freezing.

The proposals are rules of thumb on one curve of one data set, not results: they say what to try first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mm_graft.equations import evenly_spaced

MOST_HEADS = 8
CLEAR = 1.0  # percentage points below the best block from which the last ones count as having fallen
TITLES = {'knn': 'kNN top-1 accuracy, %', 'linear': 'linear top-1 accuracy, %', 'rankme': 'RankMe'}

Curves = Mapping[str, Mapping[str, list[float]]]  # pool → measure → a value for every block


@dataclass(frozen=True)
class Proposal:
    """What to try first on an encoder of L blocks."""

    pool: str  #: the features whose kNN is best, on which the rest stands
    best_block: int  #: depth of the best block, from 1
    out_indices: list[int]  #: blocks for the refiner's heads, from 0, as a backbone takes them
    graft_depth: int  #: blocks to keep as they are, or to train slowly; those above are trained
    freeze_first: int  #: blocks that can be frozen from the start
    #: depths in the order in which the rest may stop (0 is the stem), as FreezeOut does from below
    freeze_order: list[int]
    reason: str  #: why, in words


def propose(curves: Curves) -> Proposal:
    """Where heads, graft and freezing would begin, by the best kNN curve.

    - Heads: from the best block to the last where the last has fallen clearly below it, since these blocks have lost
      what they knew; otherwise the last block alone, as more heads pay where blocks decay.
    - Graft: the blocks up to the best one hold what masked image modeling gives; the last one is always trained.
    - Freezing: up to the block at which half of the curve's rise is done, features are general, and cheap to keep.
    """
    pool = max(curves, key=lambda name: max(curves[name]['knn']))
    knn = np.asarray(curves[pool]['knn'])
    last, best = len(knn) - 1, int(knn.argmax())
    fall = float(knn[best] - knn[last])
    heads = (best + evenly_spaced(last + 1 - best, MOST_HEADS)).tolist() if fall >= CLEAR else [last]
    graft_depth = min(best + 1, last)
    half = knn[0] + (knn[best] - knn[0]) / 2
    freeze_first = int((knn >= half).argmax())
    fallen = (f'the last block is {fall:.1f} points below: heads on all of them' if fall >= CLEAR else
              f'the last block is as good (within {CLEAR:g} points): one head')
    reason = (f'kNN of the {pool} is best at block {best + 1} of {last + 1} ({knn[best]:.1f} %), and {fallen}; half of '
              f'its rise is done after block {freeze_first}')
    return Proposal(pool, best + 1, heads, graft_depth, freeze_first, list(range(graft_depth + 1)), reason)


def draw_layers(found: Mapping[str, Curves], proposals: Mapping[str, Proposal]) -> Figure:
    """A panel for each measure, a line for each encoder and pool; rings mark the proposed heads."""
    figure = Figure(figsize=(5 * len(TITLES), 4), layout='constrained')
    for axes, (measure, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items()):
        for number, (label, curves) in enumerate(found.items()):
            for pool, style in zip(curves, ('-', '--')):
                values = curves[pool][measure]
                axes.plot(range(1, len(values) + 1), values, style, color=f'C{number}', label=f'{label}, {pool}')
            proposal = proposals[label]
            values = curves[proposal.pool][measure]
            axes.plot([index + 1 for index in proposal.out_indices],
                      [values[index] for index in proposal.out_indices], 'o', mfc='none', color=f'C{number}')
            axes.axvline(proposal.graft_depth + 0.5, color=f'C{number}', lw=0.6, ls=':')
        axes.set_xlabel('block')
        axes.set_ylabel(title)
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize='small')
    return figure
