"""Learning rates and freezing events of a config over its run, simulated with the real optimizer and schedulers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from mm_graft.analysis.param_table import build_on_meta

ITERS_PER_EPOCH = 50  # shapes hardly depend on it; it stands in for the data set that is not built
POINTS = 1000
GLOBAL = ', global rate'


@dataclass
class RunLength:
    """How long a config trains: ``total`` iterations, of which ``epoch`` make an epoch (None: counted by iteration)."""

    total: int
    epoch: int | None

    @property
    def unit(self) -> str:
        """Unit of the time axis."""
        return 'iteration' if self.epoch is None else 'epoch'

    def time(self, iteration: float) -> float:
        """An iteration on the time axis."""
        return iteration / (self.epoch or 1)


@dataclass
class SimulatedRun:
    """Rates of a run."""

    length: RunLength  #: of the run
    times: list[float] = field(default_factory=list)  #: where the rates were read, in epochs or iterations
    #: label of a param group (``stage 2``, ``depth 5``) → its rate at ``times``
    rates: dict[str, list[float]] = field(default_factory=dict)
    #: depth → time from which it no longer trains; empty without FreezeOut
    frozen_at: dict[int, float] = field(default_factory=dict)
    num_blocks: int = 0  #: transformer blocks of the encoder; 0 where the groups do not say


def run_length(cfg: Config, iters_per_epoch: int) -> RunLength:
    """Length of a config's training."""
    train_cfg = cfg.get('train_cfg') or {}
    if 'max_iters' in train_cfg:
        return RunLength(train_cfg['max_iters'], None)
    if 'max_epochs' in train_cfg:
        return RunLength(train_cfg['max_epochs'] * iters_per_epoch, iters_per_epoch)
    raise ValueError('the config has no `train_cfg` with `max_epochs` or `max_iters`, so there is no run to draw; '
                     'give it one, e.g. --cfg-options train_cfg.max_epochs=100')


def build_schedulers(cfg: Config, optim_wrapper: OptimWrapper, length: RunLength) -> list[_ParamScheduler]:
    """The config's schedulers as the Runner builds them: those without an ``end`` last for the whole run."""
    configs = cfg.get('param_scheduler') or []
    epoch = length.epoch or ITERS_PER_EPOCH
    schedulers = []
    for config in configs if isinstance(configs, Sequence) else [configs]:
        end = length.total // epoch if config.get('by_epoch', True) else length.total
        schedulers.append(PARAM_SCHEDULERS.build(
            {'end': end, **config}, default_args={'optimizer': optim_wrapper, 'epoch_length': epoch}))
    optim_wrapper.step()  # without gradients it changes nothing; without any step every scheduler would warn
    return schedulers


def group_labels(optim_wrapper: OptimWrapper) -> list[str]:
    """Labels of param groups in the figure; groups that differ only in weight decay share one."""
    labels = []
    for group in optim_wrapper.optimizer.param_groups:
        depth, stage = group.get('depth', group.get('layer_id')), group.get('stage')
        place = f'depth {depth}' if depth is not None else f'stage {stage}' if stage is not None else 'all parameters'
        labels.append(place + (GLOBAL if group.get('global_rate') else ''))
    return labels


def simulate(cfg: Config, iters_per_epoch: int = ITERS_PER_EPOCH) -> SimulatedRun:
    """Rates over the run of a config; builds the model without memory for its weights, and no data set."""
    length = run_length(cfg, iters_per_epoch)
    optim_wrapper = build_on_meta(cfg)[1]
    schedulers = build_schedulers(cfg, optim_wrapper, length)
    blocks = optim_wrapper.optimizer.param_groups[0].get('num_blocks', 0)
    labels, run = group_labels(optim_wrapper), SimulatedRun(length, num_blocks=blocks)
    stride = max(1, length.total // POINTS)
    for iteration in range(length.total):
        if iteration % stride == 0 or iteration == length.total - 1:
            _record(run, iteration, labels, optim_wrapper)
        _step(schedulers, length, iteration)
    for scheduler in schedulers:
        for depth, first in enumerate(getattr(scheduler, 'freeze_steps', ())):
            if first is not None:
                run.frozen_at[depth] = length.time(first * scheduler.accumulative_counts)
    return run


def _record(run: SimulatedRun, iteration: int, labels: list[str], optim_wrapper: OptimWrapper) -> None:
    run.times.append(run.length.time(iteration))
    now = {label: group['lr'] for label, group in zip(labels, optim_wrapper.optimizer.param_groups)}
    for label, rate in now.items():
        run.rates.setdefault(label, []).append(rate)


def _step(schedulers: list[_ParamScheduler], length: RunLength, iteration: int) -> None:
    end_of_epoch = length.epoch is not None and (iteration + 1) % length.epoch == 0
    for scheduler in schedulers:
        if not scheduler.by_epoch or end_of_epoch:
            scheduler.step()


def draw(run: SimulatedRun, title: str) -> Figure:
    """Rates over time from dark (shallow) to bright (deep), a dot where a depth freezes.

    Groups of equal rates share a line; dashed and gray is what follows the global cosine on a depth of FreezeOut.
    """
    figure = Figure(figsize=(9, 4.8), layout='constrained')
    axes = figure.add_subplot()
    curves: dict[tuple, list[str]] = {}
    for label, rates in sorted(run.rates.items(), key=lambda item: (GLOBAL in item[0], _number(item[0]))):
        curves.setdefault(tuple(rates), []).append(label)
    solid = sum(GLOBAL not in labels[0] for labels in curves.values())
    for index, (rates, labels) in enumerate(curves.items()):
        _draw_curve(axes, run, labels, rates, colormaps['viridis'](.92 * index / max(1, solid - 1)))
    _label(axes, run, title)
    return figure


def _draw_curve(axes: Axes, run: SimulatedRun, labels: list[str], rates: tuple[float, ...], color: tuple) -> None:
    if GLOBAL in labels[0]:
        axes.plot(run.times, rates, '--', color='0.6', linewidth=1, zorder=1, label=', '.join(labels))
        return
    depth = _number(labels[0])
    frozen = run.frozen_at.get(depth)
    ending = '' if frozen is None else f', frozen at {frozen:.4g}'
    axes.plot(run.times, rates, color=color, linewidth=1.5, label=', '.join(labels) + ending)
    if frozen is not None:
        axes.plot(frozen, 0, 'o', color=color, markersize=5, clip_on=False, zorder=3)


def _number(label: str) -> int:
    return int((re.search(r'\d+', label) or [0])[0])


def _label(axes: Axes, run: SimulatedRun, title: str) -> None:
    axes.set(xlabel=run.length.unit, ylabel='learning rate', xlim=(0, run.length.time(run.length.total)),
             ylim=(0, None))
    axes.set_title(title, loc='left', fontsize=10)
    axes.ticklabel_format(axis='y', style='sci', scilimits=(-2, 2))
    axes.grid(alpha=.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='center left', bbox_to_anchor=(1.01, .5), frameon=False, fontsize=8)
