"""The conflict of two losses' gradients, measured during a run."""

import time

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mm_graft.depth import unwrap
from mm_graft.gradients import terms_conflict, undisturbed
from mm_graft.random_state import random_state_kept
from mm_graft.registry import HOOKS
from mm_graft.sharding import refuse_sharding, sharding_of


@HOOKS.register_module()
class GradientConflictHook(Hook):
    """Log the cosine of two losses' gradients in every block, every few iterations (grafting, Eq. 3 and Fig. 1).

    Before an iteration the batch that is about to be trained goes through the model once more, without mixed precision,
    and each of the two terms is differentiated. Logged are ``cos_conflict/block_01`` and so on to all visualization
    backends (NaN where a block does not train), and what that cost: seconds, and their share of the time since training
    began. One measurement costs one step without its optimizer (5/3 of it if both terms share their whole graph: a
    forward and two backwards of twice its cost, against one and one), so 1 to 2 % of a run with ``interval=100``; in
    fp32 always, so several times that where the run itself is in bf16. It wants the memory of an fp32 step meanwhile.

    The run does not notice: its gradients, statistics of batch norm, averaged copies and random states are as before,
    and it ends with the same weights, bit by bit. With several processes each measures its own batch, and the mean of
    the cosines is logged.

    Args:
        losses: two terms that the algorithm returns; the weights of a sum do not change their cosine.
        interval: iterations between two measurements, the first of which comes before the first iteration.
    """

    priority = 'LOW'

    def __init__(self, losses: tuple[str, str] = ('loss_pixels', 'loss_contrast'), interval: int = 100) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} counts iterations between measurements; choose at least 1')
        if len(losses) != 2 or len(set(losses)) != 2:
            raise ValueError(f'losses={list(losses)} must be two different terms of the algorithm')
        self.losses, self.interval = tuple(losses), interval
        self.start = self.seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        """Refuse what cannot be measured, and start the clock."""
        refuse_sharding('GradientConflictHook', sharding_of(runner))
        self.start, self.seconds = time.perf_counter(), 0.0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Measure when it is time."""
        if runner.iter % self.interval:
            return
        start = time.perf_counter()
        cosine = self.measure(runner, data_batch)
        self.seconds += time.perf_counter() - start
        values = {f'cos_conflict/block_{block:02d}': value for block, value in enumerate(cosine.tolist(), 1)}
        runner.visualizer.add_scalars(values, step=runner.iter + 1)
        share = 100 * self.seconds / max(time.perf_counter() - self.start, 1e-9)
        runner.logger.info(
            f'iteration {runner.iter}: conflict of {" and ".join(self.losses)}: {summary(cosine)}; measuring has taken '
            f'{self.seconds:.1f} s, {share:.1f} % of the time since training began')

    def measure(self, runner: Runner, data_batch: object) -> torch.Tensor:
        """Cosine per block (num_blocks, ) on the CPU, mean over the processes."""
        model = unwrap(runner.model)
        with random_state_kept(), undisturbed(model):
            data = model.data_preprocessor(data_batch, True)
            cosine = terms_conflict(model, lambda: model(**data, mode='loss'), self.losses).cosine
        all_reduce(cosine, op='mean')
        return cosine.float().cpu()


def summary(cosine: torch.Tensor) -> str:
    """The cosines per block (num_blocks, ) in words; NaN is a block without both gradients."""
    known = cosine[cosine.isfinite()]
    if not len(known):
        return 'no block has both gradients'
    return (f'cosine {known.min():.3f} to {known.max():.3f}, negative in {int((known < 0).sum())} of {len(known)} '
            'blocks')
