from types import SimpleNamespace

import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mm_graft.host.train_loops import (
    count_batches_anew,
    count_batches_from,
    settle_validation_interval,
    will_train,
)
from tests.tiny import Noise, grafted_mocov3, settings


class Seen(EpochBasedTrainLoop):
    def __init__(self):
        self.seen = []

    def run_iter(self, idx, data_batch):
        self.seen.append((idx, data_batch))


def test_later_batches_of_an_epoch_are_counted_on_until_the_loop_counts_anew():
    loop = Seen()
    count_batches_from(loop, 5)
    loop.run_iter(0, 'a')
    loop.run_iter(1, 'b')
    count_batches_anew(loop)
    count_batches_anew(loop)
    loop.run_iter(0, 'c')
    assert loop.seen == [(5, 'a'), (6, 'b'), (0, 'c')]


def test_an_interval_that_changes_within_the_run_is_the_one_of_its_place():
    runner = SimpleNamespace(build_dataloader=lambda loader, **kwargs: loader, _randomness_cfg={})
    loader = torch.utils.data.DataLoader(Noise())
    loop = EpochBasedTrainLoop(runner, loader, max_epochs=20, val_interval=5, dynamic_intervals=[(10, 1)])
    assert settle_validation_interval(loop) == 5
    loop._epoch = 15
    assert settle_validation_interval(loop) == 1
    loop = IterBasedTrainLoop(runner, loader, max_iters=20, val_interval=7)
    assert settle_validation_interval(loop) == 7


def test_a_runner_trains_once_its_loop_is_built(tmp_path):
    runner = Runner(**settings(grafted_mocov3(), tmp_path))
    assert not will_train(runner)
    assert runner.train_loop
    assert will_train(runner)
