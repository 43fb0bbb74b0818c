import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.engine.reliability.rng_state_hook import RNGStateHook


def draw():
    """One number of each generator."""
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


class Draws(Dataset):
    """Samples that are what the generators of the loader's process give."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {'inputs': torch.tensor((index, *draw()), dtype=torch.float64)}


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        return {'loss': self.weight.sum() * torch.rand(1).sum()}


class Watch(Hook):
    """Notes the batches of each iteration, what the process draws, and the number of the batch."""

    def __init__(self):
        self.batches, self.own, self.numbers = {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches[runner.iter] = [value.tolist() for value in data_batch['inputs']]
        self.own[runner.iter] = draw()
        self.numbers[runner.iter] = batch_idx


class Stop(Exception):
    pass


class StopAfter(Hook):
    """Saves and ends a run in the middle of an epoch."""

    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            runner.save_checkpoint(runner.work_dir, 'stopped.pth', by_epoch=False)
            raise Stop


def run(folder, epochs=3, seed=0, resume=None, hook=True, workers=2, iterations=None, stop=None, batch_size=2,
        sampler='DefaultSampler'):
    watch = Watch()
    loop = dict(type='IterBasedTrainLoop', max_iters=iterations) if iterations else dict(
        type='EpochBasedTrainLoop', max_epochs=epochs)
    runner = Runner(
        model=Net(), work_dir=str(folder), experiment_name=f'{folder.parent.name}{folder.name}{random.random()}',
        train_dataloader=dict(batch_size=batch_size, dataset=Draws(), sampler=dict(type=sampler, shuffle=True),
                              collate_fn=dict(type='default_collate'), num_workers=workers,
                              persistent_workers=workers > 0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), train_cfg=loop, resume=bool(resume),
        load_from=resume, randomness=dict(seed=seed), log_level='ERROR', default_hooks=dict(
            logger=None, checkpoint=dict(type='CheckpointHook', by_epoch=not iterations),
            **({'rng': dict(type='mm_graft.RNGStateHook')} if hook else {})))
    runner.register_hook(watch)
    if stop:
        runner.register_hook(StopAfter(stop))
        with pytest.raises(Stop):
            runner.train()
    else:
        runner.train()
    runner.train_dataloader._iterator = None  # ends the workers now rather than at some collection of garbage
    return watch, runner.model.weight.item()


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_resumed_after_an_epoch_draws_what_an_uninterrupted_one_draws(tmp_path, workers):
    whole, weight = run(tmp_path / 'whole', workers=workers)
    run(tmp_path / 'parts', epochs=1, workers=workers)
    resumed, resumed_weight = run(tmp_path / 'parts', resume=str(tmp_path / 'parts' / 'epoch_1.pth'), workers=workers)
    assert sorted(resumed.batches) == list(range(4, 12))
    assert all(resumed.batches[step] == whole.batches[step] for step in resumed.batches)
    assert all(resumed.own[step] == whole.own[step] for step in resumed.own)
    assert resumed_weight == weight


@pytest.mark.parametrize(('stop', 'loop'), [(6, dict(epochs=3)), (8, dict(epochs=3)), (6, dict(
    iterations=12, sampler='InfiniteSampler'))])
def test_a_run_resumed_at_any_iteration_goes_on_with_the_next_batch(tmp_path, stop, loop):
    whole, weight = run(tmp_path / 'whole', workers=0, **loop)
    run(tmp_path / 'parts', stop=stop, workers=0, **loop)
    resumed, resumed_weight = run(tmp_path / 'parts', resume=str(tmp_path / 'parts' / 'stopped.pth'), workers=2, **loop)
    assert sorted(resumed.batches) == list(range(stop, 12))
    assert all(resumed.batches[step] == whole.batches[step] for step in resumed.batches)
    assert all(resumed.own[step] == whole.own[step] for step in resumed.own)
    assert all(resumed.numbers[step] == whole.numbers[step] for step in resumed.numbers)
    assert resumed_weight == weight


def test_the_middle_of_an_epoch_cannot_be_found_with_another_batch_size(tmp_path):
    run(tmp_path, stop=6, workers=0)
    with pytest.raises(ValueError, match=r"middle of an epoch.*changed: \['batch_size'\].*checkpoint of an epoch"):
        run(tmp_path, resume=str(tmp_path / 'stopped.pth'), workers=0, batch_size=4)


def test_a_run_of_iterations_is_not_sent_to_the_end_of_an_epoch(tmp_path):
    loop = dict(iterations=12, sampler='InfiniteSampler', workers=0)
    run(tmp_path, stop=6, **loop)
    with pytest.raises(ValueError, match=r"changed: \['batch_size'\].*otherwise start a new run"):
        run(tmp_path, resume=str(tmp_path / 'stopped.pth'), batch_size=4, **loop)


def test_after_an_epoch_another_batch_size_is_fine(tmp_path):
    run(tmp_path, epochs=1, workers=0)
    resumed, _ = run(tmp_path, epochs=2, resume=str(tmp_path / 'epoch_1.pth'), workers=0, batch_size=4)
    assert len(resumed.batches) == 2


def test_the_order_of_a_run_without_a_seed_is_resumed_too(tmp_path):
    first, _ = run(tmp_path, stop=6, workers=0, seed=None)
    resumed, _ = run(tmp_path, resume=str(tmp_path / 'stopped.pth'), workers=0, seed=None)
    seen = [sample[0] for step in (4, 5) for sample in first.batches[step]]
    seen += [sample[0] for step in (6, 7) for sample in resumed.batches[step]]
    assert sorted(seen) == list(range(8))


def test_without_it_the_host_draws_something_else(tmp_path):
    whole, _ = run(tmp_path / 'whole', hook=False)
    run(tmp_path / 'parts', epochs=1, hook=False)
    resumed, _ = run(tmp_path / 'parts', resume=str(tmp_path / 'parts' / 'epoch_1.pth'), hook=False)
    assert resumed.batches[4] != whole.batches[4]
    assert resumed.own[4] != whole.own[4]


def test_every_sample_iteration_and_generator_draws_its_own(tmp_path):
    watch, _ = run(tmp_path / 'whole')
    values = [value for batch in watch.batches.values() for sample in batch for value in sample[1:]]
    values += [value for draws in watch.own.values() for value in draws]
    assert len(values) == 3 * (8 * 3 + 4 * 3)
    assert len(set(values)) == len(values)


def test_another_seed_is_another_run(tmp_path):
    assert run(tmp_path / 'a', epochs=1)[0].batches != run(tmp_path / 'b', epochs=1, seed=1)[0].batches


def test_it_runs_before_other_hooks():
    assert RNGStateHook.priority == 'VERY_HIGH'
