"""The batch of an optimizer step: images of a process × processes × accumulated iterations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mm_graft.nested import value_at

if TYPE_CHECKING:
    from mmengine.config import Config

WORLD_SIZE = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def processes(cfg: Config) -> int:
    """How many train together, as their launcher tells each of them."""
    return int(os.environ.get(WORLD_SIZE.get(cfg.get('launcher'), ''), 1))


def accumulation(cfg: Config) -> int:
    """Iterations of an optimizer step."""
    return value_at(cfg, 'optim_wrapper.accumulative_counts') or 1


def effective_batch(cfg: Config) -> int | None:
    """Images of an optimizer step, None if the loader does not say."""
    batch = value_at(cfg, 'train_dataloader.batch_size') or value_at(cfg, 'train_dataloader.batch_sampler.batch_size')
    return batch * processes(cfg) * accumulation(cfg) if batch else None


def share_batch(cfg: Config, batch_size: int) -> str:
    """Give every process its share of an effective batch; a line that says so."""
    shares = processes(cfg) * accumulation(cfg)
    if not isinstance(batch_size, int) or batch_size < 1 or batch_size % shares:
        raise ValueError(f'--cfg-options batch_size={batch_size} cannot be shared by {processes(cfg)} processes with '
                         f'{accumulation(cfg)} iterations a step; choose a multiple of {shares}')
    cfg.train_dataloader.batch_size = batch_size // shares
    return f'train_dataloader.batch_size = {batch_size // shares} (batch_size / {shares})'


def scale_by_effective_batch(cfg: Config) -> None:
    """Let the host, which scales the learning rate by the images of one iteration, count those of a step."""
    if (cfg.get('auto_scale_lr') or {}).get('enable'):
        cfg.auto_scale_lr.base_batch_size /= accumulation(cfg)
