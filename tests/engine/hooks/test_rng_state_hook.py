import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.engine.hooks.rng_state_hook import RNGStateHook, seed_generators, seed_worker


def draw():
    """One number of each generator."""
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


class Draws(Dataset):
    """Samples that are what the generators of the loader's process give."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.tensor(draw(), dtype=torch.float64), 'worker': torch.tensor(self.was_set_up)}

    was_set_up = 0


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        return {'loss': self.weight.sum() * torch.rand(1).sum()}


class Watch(Hook):
    """Notes the batches of each epoch and what the process draws."""

    def __init__(self):
        self.batches, self.own = {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.setdefault(runner.epoch, []).append([value.tolist() for value in data_batch['inputs']])
        self.own.setdefault(runner.epoch, []).append(draw())


def run(folder, epochs=3, seed=0, resume=False, hook=True, workers=2):
    watch = Watch()
    runner = Runner(
        model=Net(), work_dir=str(folder), experiment_name=f'{folder.parent.name}{folder.name}{epochs}',
        train_dataloader=dict(batch_size=2, dataset=Draws(), sampler=dict(type='DefaultSampler', shuffle=True),
                              collate_fn=dict(type='default_collate'), num_workers=workers,
                              persistent_workers=workers > 0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs), resume=resume, randomness=dict(seed=seed),
        log_level='ERROR', default_hooks=dict(
            logger=None, **({'rng': dict(type='mm_graft.RNGStateHook')} if hook else {})))
    runner.register_hook(watch)
    runner.train()
    runner.train_dataloader._iterator = None  # ends the workers now rather than at some collection of garbage
    return watch, runner.model.weight.item()


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_draws_what_an_uninterrupted_one_draws(tmp_path, workers):
    whole, weight = run(tmp_path / 'whole', workers=workers)
    run(tmp_path / 'parts', epochs=1, workers=workers)
    resumed, resumed_weight = run(tmp_path / 'parts', resume=True, workers=workers)
    assert sorted(resumed.batches) == [1, 2]
    assert all(resumed.batches[epoch] == whole.batches[epoch] for epoch in (1, 2))
    assert all(resumed.own[epoch] == whole.own[epoch] for epoch in (1, 2))
    assert resumed_weight == weight


def test_without_it_the_host_draws_something_else(tmp_path):
    whole, _ = run(tmp_path / 'whole', hook=False)
    run(tmp_path / 'parts', epochs=1, hook=False)
    resumed, _ = run(tmp_path / 'parts', resume=True, hook=False)
    assert resumed.batches[1] != whole.batches[1]
    assert resumed.own[1] != whole.own[1]


def test_every_epoch_worker_and_generator_is_of_its_own(tmp_path):
    watch, _ = run(tmp_path / 'whole')
    values = [value for batches in watch.batches.values() for batch in batches for sample in batch for value in sample]
    values += [value for draws in watch.own.values() for triple in draws for value in triple]
    assert len(values) == 3 * (4 * 3 + 2 * 3)
    assert len(set(values)) == len(values)


def test_another_seed_is_another_run(tmp_path):
    assert run(tmp_path / 'a', epochs=1)[0].batches != run(tmp_path / 'b', epochs=1, seed=1)[0].batches


def set_up(worker):
    Draws.was_set_up = 7


def test_what_the_config_does_in_a_worker_still_happens():
    try:
        seed_worker(0, (1, 2), set_up)
        first = draw()
        assert Draws.was_set_up == 7
    finally:
        Draws.was_set_up = 0
    seed_worker(0, (1, 2), None)
    assert draw() == first
    seed_worker(1, (1, 2), None)
    assert draw() != first


def test_every_number_of_the_entropy_counts():
    seen = set()
    for entropy in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1)):
        seed_generators(*entropy)
        seen.add(draw())
    assert len(seen) == 5
    seed_generators(0, 0, 0)
    assert draw() in seen


def test_it_runs_before_other_hooks():
    assert RNGStateHook.priority == 'VERY_HIGH'
