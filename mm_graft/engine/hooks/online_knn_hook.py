"""kNN and a linear probe during pre-training."""

import time

from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from torch import nn

from mm_graft.depth import unwrap
from mm_graft.random_state import random_state_kept
from mm_graft.registry import HOOKS
from mm_graft.sharding import refuse_sharding, sharding_of


@HOOKS.register_module()
class OnlineKNNHook(Hook):
    """Score the encoder's frozen features every few epochs, in the log and all visualization backends.

    Logged are ``knn_top1`` and ``linear_top1`` in percent, and what that cost: its seconds, and its share of the time
    since training began. With 10,000 + 10,000 images an evaluation is the forward pass of as many images, once.

    An encoder that continues from public weights wants two of them, one on images of the new domain and one on images
    that it should not forget, each with labeled data of its own::

        custom_hooks = [
            dict(type='mm_graft.OnlineKNNHook', name=name, at_start=True, probe=dict(
                train=dict(type='mm_graft.ImageFolder', data_root=f'data/{name}/train'), linear_epochs=0))
            for name in ('new', 'old')]

    which log ``new_knn_top1`` and ``old_knn_top1``; ``mm_graft.StopForgettingHook`` acts on the second.

    Without labels, ``probe=dict(type='mm_graft.LabelFreeProbe')`` logs ``rank_me``, ``lidar`` and ``alpha_req``.

    The training path does not notice: the random states are put back, modules keep their modes, and there are no
    gradients; a run with this hook ends with the same weights as one without.

    Args:
        interval: epochs between two evaluations; the last epoch is always evaluated.
        name: what stands before the names of the values, with an underscore.
        at_start: evaluate before the first step too, but not in a resumed run.
        encoder: dotted name of the encoder in the model, ``'momentum_encoder.module.0'`` for the host's momentum
            encoder.
        probe: what evaluates: a config out of METRICS with the arguments of ``mm_graft.OnlineProbe``, which reads the
            data sets from the run's config unless it is given others.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1, encoder: str = 'backbone', probe: dict | None = None, name: str = '',
                 at_start: bool = False) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval} counts epochs between evaluations; choose at least 1')
        self.interval, self.encoder, self.at_start = interval, encoder, at_start
        self.prefix = f'{name}_' if name else ''
        self.probe = {'type': 'mm_graft.OnlineProbe', **(probe or {})}
        self.start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Build the probe and look up the encoder, so that errors come before the first epoch."""
        refuse_sharding('OnlineKNNHook, which calls the encoder by itself,', sharding_of(runner))
        self._encoder(runner)
        with random_state_kept():
            self.evaluator = METRICS.build({'cfg': runner.cfg, **self.probe})
        self.start = time.perf_counter()
        if self.at_start and runner.iter == 0:
            self._evaluate(runner, epoch=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate when it is time."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self._evaluate(runner, runner.epoch + 1)

    def _evaluate(self, runner: Runner, epoch: int) -> None:
        start = time.perf_counter()
        with random_state_kept():
            result = {f'{self.prefix}{name}': value
                      for name, value in self.evaluator.evaluate(self._encoder(runner)).items()}
        now = time.perf_counter()
        for name, value in result.items():
            runner.message_hub.update_scalar(f'val/{name}', value)
        runner.visualizer.add_scalars({**result, f'{self.prefix}online_probe_seconds': now - start}, step=epoch)
        shown = ', '.join(f'{name} {value:.2f}' for name, value in result.items())
        share = f', {100 * (now - start) / (now - self.start):.1f} % of the time since training began' if epoch else ''
        runner.logger.info(f'epoch {epoch}: {shown}; took {now - start:.1f} s{share}')

    def _encoder(self, runner: Runner) -> nn.Module:
        try:
            return unwrap(runner.model).get_submodule(self.encoder)
        except AttributeError as error:
            names = [name for name, _ in unwrap(runner.model).named_children()]
            raise ValueError(f'encoder={self.encoder!r} is not in the model; its parts are {names}') from error
