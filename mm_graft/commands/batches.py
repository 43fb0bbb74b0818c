"""The batch of an optimizer step: images of a process × processes × accumulated iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_graft.commands.launchers import told
from mm_graft.nested import value_at

if TYPE_CHECKING:
    from mmengine.config import Config


def processes(cfg: Config) -> int:
    """Number of processes, from the launcher's environment variables."""
    return int(told(cfg.get('launcher'), 'processes') or 1)


def accumulation(cfg: Config) -> int:
    """Iterations per optimizer step, also where there are several optimizers or DeepSpeed counts."""
    wrapper = cfg.get('optim_wrapper')
    wrapper = wrapper if hasattr(wrapper, 'items') else {}  # a Runner may be given a built one
    several = {name: part for name, part in wrapper.items() if isinstance(part, dict) and 'optimizer' in part}
    counts = {name: part.get('accumulative_counts') or 1 for name, part in (several or {'': wrapper}).items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f'optim_wrapper: its optimizers have accumulative_counts {counts}, so that there is no batch '
                         'of all; give them the same, and each its own learning rate')
    deepspeed = ('strategy.gradient_accumulation_steps', 'strategy.config.gradient_accumulation_steps')
    steps = next(filter(None, (value_at(cfg, key) for key in deepspeed)), 1)
    return next(iter(counts.values())) * steps


def share_batch(cfg: Config, batch_size: int) -> str:
    """Set each process's share of an effective batch; returns a line for the log."""
    shares = processes(cfg) * accumulation(cfg)
    if not isinstance(batch_size, int) or batch_size < 1 or batch_size % shares:
        raise ValueError(f'--cfg-options batch_size={batch_size} cannot be shared by {processes(cfg)} processes with '
                         f'{accumulation(cfg)} iterations a step; choose a multiple of {shares}')
    cfg.train_dataloader.batch_size = batch_size // shares
    return f'train_dataloader.batch_size = {batch_size // shares} (batch_size / {shares})'


def scale_by_effective_batch(cfg: Config) -> None:
    """Make the host, which scales the learning rate by the images of an iteration, count those of a step."""
    if (cfg.get('auto_scale_lr') or {}).get('enable'):
        cfg.auto_scale_lr.base_batch_size /= accumulation(cfg)
