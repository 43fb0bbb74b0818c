import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from mm_graft.engine.reliability.schedule_replay import Place, bring_to
from mm_graft.engine.schedulers.cosine_weight_decay import CosineWeightDecay


def optimizer(*decays):
    groups = [{'params': [torch.nn.Parameter(torch.zeros(1))], 'weight_decay': decay} for decay in decays]
    return torch.optim.AdamW(groups, lr=1.0)


def decays(optimizer):
    return [group['weight_decay'] for group in optimizer.param_groups]


def cosine_ratio(step, total, ratio):
    """Half a cosine from 1 to the ratio."""
    return (1 + ratio) / 2 + (1 - ratio) / 2 * math.cos(math.pi * step / total)


def test_half_way_the_decay_is_the_mean_of_both_ends():
    groups = optimizer(0.04)
    scheduler = CosineWeightDecay(groups, end_ratio=10, end=10, by_epoch=False)
    for _ in range(5):
        scheduler.step()
    assert decays(groups) == pytest.approx([0.22])


def test_every_group_follows_around_its_own_value_and_rates_stay():
    groups = optimizer(0.04, 0.0, 0.4)
    scheduler = CosineWeightDecay(groups, end_ratio=10, end=8, by_epoch=False)
    for step in range(8):
        assert decays(groups) == pytest.approx([0.04 * cosine_ratio(step, 8, 10), 0, 0.4 * cosine_ratio(step, 8, 10)])
        scheduler.step()
    assert [group['lr'] for group in groups.param_groups] == [1.0] * 3


def test_one_that_begins_later_is_as_much_shorter():
    groups = optimizer(0.04)
    scheduler = CosineWeightDecay(groups, end_ratio=10, begin=4, end=12, by_epoch=False)
    seen = []
    for _ in range(12):
        seen.append(decays(groups)[0])
        scheduler.step()
    assert seen[:5] == pytest.approx([0.04] * 5)
    assert seen[4:] == pytest.approx([0.04 * cosine_ratio(step, 8, 10) for step in range(8)])


def test_epochs_become_iterations_and_the_length_comes_from_the_run():
    groups = optimizer(0.04)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mm_graft.CosineWeightDecay', end_ratio=10, end=3, convert_to_iter_based=True),
        default_args=dict(optimizer=groups, epoch_length=4))
    for _ in range(6):
        scheduler.step()
    assert decays(groups) == pytest.approx([0.04 * cosine_ratio(6, 12, 10)])


def test_a_resumed_one_stands_where_it_would_have_been():
    first, second = optimizer(0.04), optimizer(0.04)
    scheduler, other = (CosineWeightDecay(each, end_ratio=10, end=8, by_epoch=False) for each in (first, second))
    for _ in range(5):
        scheduler.step()
    bring_to([other], Place(epochs=1, iterations=5, epoch_length=5))
    assert decays(first) == pytest.approx(decays(second))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match='choose one ≥ 0'):
        CosineWeightDecay(optimizer(0.04), end_ratio=-1, end=8)
    with pytest.raises(ValueError, match='the optimizer has none'):
        CosineWeightDecay(optimizer(0.0), end_ratio=10, end=8)
    with pytest.raises(ValueError, match='needs the length'):
        CosineWeightDecay(optimizer(0.04), end_ratio=10)
    with pytest.raises(ValueError, match='by_epoch=True'):
        CosineWeightDecay.build_iter_from_epoch(optimizer(0.04), end_ratio=10, end=8, epoch_length=2, by_epoch=False)
