import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from mm_graft.host.sample_order import PositionedSampler, place_samples


class Draws(Dataset):
    """Samples that are their index and what the generators give."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def loader(seed=0, rank=0, world_size=1, workers=0, order=(0, 1, 2, 3, 4, 5, 6)):
    result = DataLoader(Draws(), batch_size=2, sampler=list(order), num_workers=workers, collate_fn=list)
    return result, place_samples(result, seed, rank, world_size)


def samples(data):
    return [sample for batch in data for sample in batch]


def test_samples_depend_on_seed_pass_and_place_and_on_nothing_else():
    data, _ = loader()
    first, second = samples(data), samples(data)
    assert len({number for sample in first + second for number in sample[1:]}) == 2 * 7 * 3
    assert samples(loader()[0]) == first
    assert samples(loader(workers=2)[0]) == first
    assert samples(loader(seed=1)[0]) != first
    swapped = samples(loader(order=(1, 0, 2, 3, 4, 5, 6))[0])
    assert [sample[1:] for sample in swapped] == [sample[1:] for sample in first]


def test_two_processes_see_the_samples_that_one_sees():
    whole = samples(loader()[0])
    for rank in range(2):
        part = loader(rank=rank, world_size=2, order=range(rank, 7, 2))[0]
        assert samples(part) == whole[rank::2]


def test_a_pass_begins_anywhere_and_the_next_one_at_its_start():
    data, placed = loader()
    passes = [samples(data) for _ in range(3)]
    data, placed = loader()
    placed.begin(1, 4)
    assert len(data) == 4  # the batches of a whole pass
    assert samples(data) == passes[1][4:]
    assert samples(data) == passes[2]
    placed.begin(0, 7)
    assert samples(data) == []


def test_nothing_that_was_skipped_is_loaded(monkeypatch):
    loaded = []
    monkeypatch.setattr(Draws, '__getitem__', lambda self, index: loaded.append(index))
    data, placed = loader()
    placed.begin(0, 4)
    samples(data)
    assert loaded == [4, 5, 6]


class Skipping(SequentialSampler):

    def skip(self, num_samples):
        raise AssertionError('both would skip')


def test_the_loop_by_iterations_skips_here_too():
    data = DataLoader(Draws(), batch_size=2, sampler=Skipping(range(7)), collate_fn=list)
    place_samples(data, 0, 0, 1)
    data.sampler.skip(4)
    assert samples(data) == samples(loader()[0])[4:]


def test_indices_come_with_their_place():
    sampler = PositionedSampler([5, 3, 1], rank=1, world_size=2)
    sampler.begin(4, 1)
    assert [(index, index.place) for index in sampler] == [(3, (4, 3)), (1, (4, 5))]
    assert len(sampler) == 3


class ByParity(BatchSampler):
    """Batches of even or of odd samples, as mmdet makes them of wide and of tall images: it asks the sampler's data."""

    def __iter__(self):
        waiting = {0: [], 1: []}
        for index in self.sampler:
            kind = waiting[self.sampler.dataset[index][0] % 2]
            kind.append(index)
            if len(kind) == self.batch_size:
                yield kind[:]
                kind.clear()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_batch_sampler_may_look_at_the_data(workers):
    order = DefaultSampler(Draws(), shuffle=False)
    data = DataLoader(Draws(), batch_sampler=ByParity(order, 2, True), num_workers=workers, collate_fn=list)
    place_samples(data, 0, 0, 1)
    found = samples(data)
    assert [sample[0] for sample in found] == [0, 2, 1, 3, 4, 6]
    assert set(found) < set(samples(loader()[0]))


def test_data_without_a_sampler_are_refused():
    with pytest.raises(ValueError, match='come from NoneType; use a batch sampler'):
        place_samples(DataLoader([1, 2], batch_size=None), 0, 0, 1)
