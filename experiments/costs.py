"""Counted operations of a training, per image, frozen prefixes taken into account."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from benchmarks.measure import count
from benchmarks.step import TrainingStep
from mm_graft.analysis.schedule_plot import simulate
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.evaluation.report import write_json


def gflops_of_step(cfg: Config, frozen: int = 0) -> float:
    """10⁹ operations per image of a step whose stem and first blocks are frozen."""
    step = TrainingStep(cfg, batch_size=2)
    if frozen:
        freeze_blocks(step.model, step.optim_wrapper.optimizer, frozen)
    return count(step)['gflops_per_image']


def gflops_of_run(cfg: Config) -> float:
    """The mean over a run, in which FreezeOut may freeze one depth after another."""
    frozen_at = simulate(cfg).frozen_at
    ends = sorted((time, depth) for depth, time in frozen_at.items() if depth)
    times = [0.0, *(time for time, _ in ends), float(cfg.train_cfg.max_epochs)]
    depths = [0, *(depth for _, depth in ends)]
    total = sum((times[index + 1] - times[index]) * gflops_of_step(cfg, depth) for index, depth in enumerate(depths))
    return total / cfg.train_cfg.max_epochs


def gflops_per_image(label: str, cfg: Config, options: Sequence[str], cache: Path) -> float:
    """10⁹ operations per image of a config with overrides, counted once and kept in ``cache`` under ``label``."""
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    if label not in known:
        for option in options:
            key, value = option.split('=')
            cfg.merge_from_dict({key: value if value.isalpha() else json.loads(value)})
        known[label] = gflops_of_run(cfg)
        write_json(cache, known)
    return known[label]
