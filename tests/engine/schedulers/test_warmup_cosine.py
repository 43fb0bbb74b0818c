import math
from itertools import pairwise

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR, warmup_cosine
from tests.defaults import defaults


def optimizer(*rates):
    return torch.optim.SGD([{'params': [torch.nn.Parameter(torch.zeros(1))], 'lr': lr} for lr in rates], lr=1.0)


def rates_of(steps, scheduler, groups):
    rates = []
    for _ in range(steps):
        rates.append([group['lr'] for group in groups.param_groups])
        scheduler.step()
    return rates


def test_it_rises_from_zero_peaks_after_the_warm_up_and_falls_to_the_minimum():
    assert warmup_cosine(0, 10, 100) == 0
    assert warmup_cosine(5, 10, 100) == 0.5
    assert warmup_cosine(10, 10, 100) == 1
    assert warmup_cosine(55, 10, 100) == pytest.approx(0.5)
    assert warmup_cosine(32.5, 10, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert warmup_cosine(100, 10, 100) == pytest.approx(0, abs=1e-16)
    assert warmup_cosine(100, 10, 100, 0.2) == pytest.approx(0.2)
    assert warmup_cosine(55, 10, 100, 0.2) == pytest.approx(0.6)
    assert warmup_cosine(0, 0, 100) == 1


def test_a_warm_up_that_does_not_start_from_zero_divides_into_one_step_more_and_meets_the_same_cosine():
    assert [warmup_cosine(step, 3, 10, from_zero=False) for step in range(4)] == [1 / 4, 2 / 4, 3 / 4, 1]
    assert warmup_cosine(7, 3, 10, 0.2, from_zero=False) == warmup_cosine(7, 3, 10, 0.2)
    groups = optimizer(2.0)
    rates = rates_of(3, WarmupCosineLR(groups, warmup=3, end=10, by_epoch=False, from_zero=False), groups)
    assert rates == [[0.5], [1.0], [1.5]]


def test_warm_up_and_cosine_meet_and_each_is_monotone():
    values = [warmup_cosine(step / 10, 10, 100) for step in range(1001)]
    assert values[:101] == sorted(values[:101])
    assert values[100:] == sorted(values[100:], reverse=True)
    assert max(abs(a - b) for a, b in pairwise(values)) < 0.011


def test_every_group_follows_the_closed_form_around_its_own_rate():
    groups = optimizer(2.0, 0.2, 3.0)
    scheduler = WarmupCosineLR(groups, warmup=3, end=10, min_ratio=0.1, by_epoch=False)
    for step, rates in enumerate(rates_of(10, scheduler, groups)):
        factor = warmup_cosine(step, 3, 10, 0.1)
        assert rates == pytest.approx([2.0 * factor, 0.2 * factor, 3.0 * factor])


def test_the_ratios_of_the_stages_hold_at_every_step():
    groups = optimizer(0.1, 1.0)
    for low, high in rates_of(8, WarmupCosineLR(groups, warmup=2, end=8, by_epoch=False), groups)[1:]:
        assert high == pytest.approx(10 * low, rel=1e-12)


def test_epochs_become_iterations():
    groups = optimizer(1.0)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mm_graft.WarmupCosineLR', warmup=2, convert_to_iter_based=True),
        default_args=dict(optimizer=groups, end=5, epoch_length=4))
    for step, (rate, ) in enumerate(rates_of(20, scheduler, groups)):
        assert rate == pytest.approx(warmup_cosine(step / 4, 2, 5), abs=1e-15)


def test_a_schedule_that_begins_later_waits_and_is_as_much_shorter():
    groups = optimizer(1.0)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mm_graft.WarmupCosineLR', warmup=1, begin=2, end=6, convert_to_iter_based=True),
        default_args=dict(optimizer=groups, epoch_length=5))
    assert not scheduler.by_epoch
    rates = [rate for rate, in rates_of(30, scheduler, groups)]
    assert rates[:10] == [1.0] * 10
    assert rates[10:] == pytest.approx([warmup_cosine(step, 5, 20) for step in range(20)])


def test_counting_epochs_works_too():
    groups = optimizer(1.0)
    scheduler = WarmupCosineLR(groups, warmup=2, end=5, by_epoch=True)
    assert [rate for rate, in rates_of(5, scheduler, groups)] == pytest.approx(
        [warmup_cosine(epoch, 2, 5) for epoch in range(5)])


def test_a_resumed_schedule_goes_on_where_it_was():
    groups = optimizer(1.0)
    whole = rates_of(10, WarmupCosineLR(groups, warmup=3, end=10, by_epoch=False), groups)
    groups = optimizer(1.0)
    first = WarmupCosineLR(groups, warmup=3, end=10, by_epoch=False)
    rates_of(4, first, groups)
    saved, state = first.state_dict(), groups.state_dict()
    groups = optimizer(1.0)
    second = WarmupCosineLR(groups, warmup=3, end=10, by_epoch=False)
    groups.load_state_dict(state)
    second.load_state_dict(saved)
    assert rates_of(6, second, groups) == whole[4:]


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(warmup=10, end=10), r'param_scheduler\.warmup=10 epochs must be shorter than the run of 10 epochs'),
    (dict(warmup=10, end=10, by_epoch=False), r'warmup=10 iterations .* run of 10 iterations'),
    (dict(warmup=-1, end=10), 'warmup=-1'), (dict(warmup=1), 'needs the length of the run'),
    (dict(warmup=1, end=10, min_ratio=1.5), r'min_ratio=1\.5 is a share'),
    (dict(warmup=1, end=10, min_ratio=-0.1), 'is a share')])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosineLR(optimizer(1.0), **settings)


def test_a_long_warm_up_is_refused_in_the_epochs_that_were_written():
    with pytest.raises(ValueError, match='warmup=1 epochs must be shorter than the run of 1 epochs'):
        WarmupCosineLR.build_iter_from_epoch(optimizer(1.0), warmup=1, end=1, epoch_length=5)
    with pytest.raises(ValueError, match=r'a run of 0 epochs trains nothing; set train_cfg\.max_epochs'):
        WarmupCosineLR.build_iter_from_epoch(optimizer(1.0), warmup=0, end=0, epoch_length=5)


def test_iterations_cannot_be_converted_to_iterations():
    with pytest.raises(ValueError, match='needs by_epoch=True'):
        WarmupCosineLR.build_iter_from_epoch(optimizer(1.0), warmup=1, end=3, epoch_length=4, by_epoch=False)


def test_it_begins_and_ends_at_zero_unless_told_otherwise():
    assert defaults(warmup_cosine) == {'min_ratio': 0.0, 'from_zero': True}
    usual = defaults(WarmupCosineLR)
    assert (usual['min_ratio'], usual['from_zero']) == (0.0, True)
