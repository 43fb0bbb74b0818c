from collections import Counter

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from mm_graft.datasets import rare_tag_sampler
from mm_graft.datasets.rare_tag_sampler import RareTagSampler, image_weights, label_rows, systematic_sample


class Tagged:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def get_cat_ids(self, index):
        return self.rows[index]


COMMON_AND_RARE = Tagged([[0]] * 90 + [[0, 1]] * 10)


def test_the_weight_is_that_of_the_rarest_tag_by_the_inverse_root():
    with np.errstate(all='raise'):  # no image has tag 1, which is no reason to divide by zero
        weights = image_weights(*label_rows(Tagged([[0], [0, 2], [0], [0]])), 0.5)
    np.testing.assert_allclose(weights, [0.5, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(image_weights(*label_rows(COMMON_AND_RARE), 1.0), [1 / 100] * 90 + [1 / 10] * 10)


def test_every_image_is_taken_its_share_of_times_up_to_rounding():
    weights = np.random.default_rng(0).random(50)
    for offset in (0.0, 0.3, 0.999):
        copies = np.bincount(systematic_sample(weights, 200, offset), minlength=50)
        assert copies.sum() == 200
        assert np.abs(copies - 200 * weights / weights.sum()).max() < 1 + 1e-9


def test_no_offset_leads_behind_the_last_image():
    for seed in range(20):  # sums that round up or down
        weights = np.random.default_rng(seed).random(50)
        taken = systematic_sample(weights, 200, np.nextafter(1.0, 0.0))
        assert taken.max() == 49
        assert (np.diff(taken) >= 0).all()


def test_labels_that_a_data_set_has_in_one_piece_are_taken_as_they_are():
    class InOnePiece(Tagged):
        def label_rows(self):
            return np.array([3, 1, 2]), np.array([0, 1, 3])

    labels, starts = label_rows(InOnePiece([[0], [0]]))
    assert (labels.tolist(), starts.tolist()) == ([3, 1, 2], [0, 1, 3])


def test_rare_tags_are_shown_more_often_and_no_power_shows_each_image_once():
    shown = Counter(RareTagSampler(COMMON_AND_RARE, seed=0))
    rare = sum(shown[index] for index in range(90, 100))
    assert sum(shown.values()) == 100
    assert abs(rare - 100 * 10 * 10**-0.5 / (10 * 10**-0.5 + 90 * 100**-0.5)) < 2
    assert sorted(RareTagSampler(COMMON_AND_RARE, power=0, seed=0)) == list(range(100))


def test_seed_and_epoch_determine_the_order():
    sampler = RareTagSampler(COMMON_AND_RARE, seed=1)
    first = list(sampler)
    assert first == list(RareTagSampler(COMMON_AND_RARE, seed=1))
    assert first != list(RareTagSampler(COMMON_AND_RARE, seed=2))
    sampler.set_epoch(1)
    assert first != list(sampler)
    assert first != sorted(first)
    for build in (RareTagSampler, DefaultSampler):  # one rule, ours and the host's
        later, other = build(COMMON_AND_RARE, seed=1), build(COMMON_AND_RARE, seed=3)
        later.set_epoch(2)
        assert list(later) == list(other)


def test_without_a_seed_all_processes_take_a_common_one(monkeypatch):
    monkeypatch.setattr(rare_tag_sampler, 'sync_random_seed', lambda: 7)
    assert list(RareTagSampler(COMMON_AND_RARE)) == list(RareTagSampler(COMMON_AND_RARE, seed=7))
    assert list(RareTagSampler(COMMON_AND_RARE, seed=0)) != list(RareTagSampler(COMMON_AND_RARE, seed=7))


@pytest.mark.parametrize('round_up', [True, False])
@pytest.mark.parametrize('count', [10, 1])
def test_processes_share_the_epoch(monkeypatch, round_up, count):
    def of_rank(rank, world):
        monkeypatch.setattr(rare_tag_sampler, 'get_dist_info', lambda: (rank, world))
        sampler = RareTagSampler(COMMON_AND_RARE, seed=0, num_samples=count, round_up=round_up)
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    whole = of_rank(0, 1)
    parts = [of_rank(rank, 3) for rank in range(3)]
    assert len(whole) == count
    if round_up:
        assert len({len(part) for part in parts}) == 1
    else:
        assert sum(map(len, parts)) == count
    woven = [part[row] for row in range(max(map(len, parts))) for part in parts if row < len(part)]
    assert woven[:count] == whole
    if round_up:
        assert woven == (3 * whole)[:len(woven)]  # the first ones come again
        monkeypatch.setattr(rare_tag_sampler, 'get_dist_info', lambda: (2, 3))
        assert list(RareTagSampler(COMMON_AND_RARE, seed=0, num_samples=count)) == parts[2]  # unless told otherwise


def test_it_is_built_by_name_and_refuses_nonsense():
    sampler = DATA_SAMPLERS.build(dict(type='mm_graft.RareTagSampler', dataset=COMMON_AND_RARE, num_samples=7))
    assert len(sampler) == 7
    with pytest.raises(ValueError, match='power ≥ 0'):
        RareTagSampler(COMMON_AND_RARE, power=-1)
    with pytest.raises(ValueError, match='num_samples ≥ 1'):
        RareTagSampler(COMMON_AND_RARE, num_samples=0)
