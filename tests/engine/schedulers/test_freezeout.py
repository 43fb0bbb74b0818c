"""FreezeOut's schedule: values by hand, composition with the optimizer's groups, lengths, errors."""

import math

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mm_graft.engine.schedulers.freezeout import (
    CONVENTIONS,
    POWERS,
    FreezeOutLR,
    freeze_ratios,
    freeze_step,
    layer_rate,
)
from tests.defaults import defaults

PAPER, CODE, BROCK = (CONVENTIONS[name] for name in ('vitfreeze_paper', 'vitfreeze_code', 'brock'))


def make_optimizer(depths=(0, 1, 2, 3), lr=1.0, accumulative_counts=1, **extra):
    groups = [{'params': [torch.nn.Parameter(torch.ones(1))], 'depth': depth, **extra} for depth in depths]
    return OptimWrapper(torch.optim.SGD(groups, lr=lr), accumulative_counts=accumulative_counts)


def make_schedule(optimizer=None, end=100, **kwargs):
    return FreezeOutLR(optimizer or make_optimizer(), end=end, by_epoch=False, **kwargs)


def rates_over_run(schedule, iterations):
    """Rates of the groups in each iteration, as the optimizer sees them."""
    rates = []
    schedule.optimizer._global_step = 0  # no optimizer steps here: silence the scheduler's warning
    for _ in range(iterations):
        rates.append([group['lr'] for group in schedule.optimizer.param_groups])
        schedule.step()
    return rates


@pytest.mark.parametrize(('how', 'wanted'), [('linear', .9), ('square', .81), ('cubic', .729)])
def test_the_middle_layer_trains_for_the_powered_share(how, wanted):
    assert freeze_ratios(0.8, how, 12)[6] == pytest.approx(wanted)
    assert POWERS[how] == {'linear': 1, 'square': 2, 'cubic': 3}[how]


def test_the_stem_of_the_default_schedule_freezes_at_51_percent_and_the_last_block_never():
    ratios = freeze_ratios(0.8, 'cubic', 12)
    assert freeze_step(PAPER, ratios[0], 1000, 100) == 513
    assert freeze_step(CODE, ratios[0], 1000, 100) == 100 + math.floor(900 * .512) + 1
    assert freeze_step(BROCK, ratios[0], 1000, 0) == 513
    assert freeze_step(PAPER, ratios[-1], 1000, 100) is None


def test_the_conventions_differ_in_warmup_and_horizon_as_the_module_says():
    at_half_warmup = {name: layer_rate(CONVENTIONS[name], 50, .5, 2., 1000, 100) for name in CONVENTIONS}
    assert at_half_warmup == {'brock': 1., 'vitfreeze_code': .5, 'vitfreeze_paper': 1.}
    assert layer_rate(CODE, 99, .5, 2., 1000, 100) == pytest.approx(.99)
    assert layer_rate(CODE, 100, .5, 2., 1000, 100) == 2.  # the jump
    assert layer_rate(PAPER, 300, .5, 2., 1000, 100) == pytest.approx(1.)  # half way from 100 to 500
    assert layer_rate(CODE, 325, .5, 2., 1000, 100) == pytest.approx(1.)  # half way from 100 to 550


def test_a_frozen_layer_has_no_rate():
    assert layer_rate(PAPER, 500, .5, 2., 1000, 100) == pytest.approx(0)
    assert layer_rate(PAPER, 501, .5, 2., 1000, 100) == 0


def test_scaled_rates_let_every_layer_cover_the_same_distance():
    distances = [sum(layer_rate(BROCK, step, ratio, 1 / ratio, 2000, 0) for step in range(2000))
                 for ratio in freeze_ratios(.8, 'cubic', 12)]
    assert max(distances) / min(distances) == pytest.approx(1, abs=2e-3)


def test_groups_keep_their_own_base_rate():
    optimizer = make_optimizer()
    optimizer.optimizer.param_groups[1]['lr'] = .1
    rates = rates_over_run(make_schedule(optimizer, lr_scaling='unscaled', t0=1.), 100)
    assert all(rate[1] == pytest.approx(.1 * rate[0]) for rate in rates)


def test_depths_beyond_the_blocks_and_the_wrapper_s_own_group_follow_the_global_cosine():
    schedule = make_schedule(warmup=10, min_ratio=.2)
    rates = rates_over_run(schedule, 100)
    assert schedule.num_blocks == 2
    assert len(rates[0]) == 5  # four groups and the one in which the wrapper keeps the base rate
    assert all(rate[3] == rate[4] for rate in rates)
    assert rates[5][3] == pytest.approx(.5)
    assert rates[-1][3] == pytest.approx(.2, abs=1e-2)
    assert rates[-1][:2] == [0, 0]


def test_scaled_rates_begin_at_the_base_over_the_share_and_unscaled_ones_at_the_base():
    ratios = freeze_ratios(0.8, 'cubic', 2)
    for scaling, peaks in (('scaled', [1 / ratio for ratio in ratios]), ('unscaled', [1.0] * 3), ('global', [1.0] * 3)):
        rates = rates_over_run(make_schedule(lr_scaling=scaling), 100)
        assert rates[0][:3] == pytest.approx(peaks)


def test_the_groups_say_how_many_blocks_there_are_where_nothing_follows_the_last():
    assert make_schedule(make_optimizer(depths=range(5))).num_blocks == 3
    assert make_schedule(make_optimizer(depths=range(5), num_blocks=4)).num_blocks == 4


def test_a_group_marked_global_follows_the_global_cosine_until_its_layer_freezes():
    optimizer = make_optimizer(depths=(0, 1, 2, 3), global_rate=True)
    schedule = make_schedule(optimizer, warmup=10)
    rates = rates_over_run(schedule, 100)
    assert rates[40][0] == rates[40][3] > 0
    assert rates[schedule.freeze_steps[0]][0] == 0


def test_global_rates_keep_the_freezing_points():
    plain, layerwise = make_schedule(lr_scaling='global'), make_schedule()
    assert plain.freeze_steps == layerwise.freeze_steps
    assert plain.rate(0, True, 20) == plain.rate(3, True, 20)


def test_the_frozen_depth_grows_one_by_one():
    schedule = make_schedule(make_optimizer(depths=range(14)), end=1000)
    depths = [schedule.frozen_depth(step) for step in range(1000)]
    assert depths[0] == -1
    assert depths[-1] == 11
    assert sorted(set(depths)) == list(range(-1, 12))
    assert depths == sorted(depths)


def test_rates_after_the_end_are_those_of_the_last_step():
    for accumulative_counts in (1, 3):
        rates = rates_over_run(make_schedule(make_optimizer(accumulative_counts=accumulative_counts), min_ratio=.1,
                                             lr_scaling='unscaled', warmup=9), 106)
        assert rates[99][2:] != rates[96][2:]
        assert all(rate == rates[99] for rate in rates[100:])


def test_after_its_end_a_run_is_as_frozen_as_in_its_last_step():
    schedule = make_schedule(make_optimizer(depths=range(14)), end=1000)
    assert schedule.frozen_depth(1000) == schedule.frozen_depth(999) == 11
    schedule.freeze_steps = [10, 999, None]  # a layer that freezes in the very last step
    assert [schedule.frozen_depth(step) for step in (9, 10, 998, 999, 1000)] == [-1, 0, 0, 1, 1]


@pytest.mark.parametrize('name', ['t0', 'schedule', 'lr_scaling', 'convention', 'warmup', 'min_ratio', 'num_blocks'])
def test_every_argument_matters(name):
    other = {'t0': .5, 'schedule': 'linear', 'lr_scaling': 'unscaled', 'convention': 'vitfreeze_code', 'warmup': 20,
             'min_ratio': .1, 'num_blocks': 3}[name]
    base = {'warmup': 10}
    assert rates_over_run(make_schedule(**base), 100) != rates_over_run(make_schedule(**(base | {name: other})), 100)


def test_accumulated_gradients_count_as_one_step():
    plain = rates_over_run(make_schedule(make_optimizer(), end=50, warmup=5), 50)
    accumulated = make_schedule(make_optimizer(accumulative_counts=4), end=200, warmup=20)
    assert accumulated.total == 50
    assert rates_over_run(accumulated, 200)[3::4] == plain


def test_an_epoch_based_config_is_converted():
    schedule = PARAM_SCHEDULERS.build(
        dict(type='mm_graft.FreezeOutLR', warmup=2, end=10, by_epoch=True, convert_to_iter_based=True),
        default_args=dict(optimizer=make_optimizer(), epoch_length=7))
    assert (schedule.total, schedule.warmup, schedule.by_epoch) == (70, 14, False)


def test_a_resumed_schedule_goes_on_as_before():
    whole = rates_over_run(make_schedule(warmup=10), 100)
    first = make_schedule(warmup=10)
    rates_over_run(first, 60)
    second = make_schedule(warmup=10)
    second.load_state_dict(first.state_dict())
    second.optimizer._global_step = 0
    second.step()
    assert [group['lr'] for group in second.optimizer.param_groups] == whole[61]


@pytest.mark.parametrize(('kwargs', 'match'), [
    ({'t0': 0}, 't0=0'), ({'t0': 1.1}, 't0=1.1'), ({'schedule': 'quartic'}, 'quartic'),
    ({'lr_scaling': 'some'}, 'some'), ({'convention': 'none'}, 'none'),
    ({'warmup': 100}, 'must be shorter than the run of 100'), ({'warmup': 60}, 'raise t0'),
    ({'convention': 'brock', 'warmup': 5}, 'no warm-up'), ({'begin': 5}, 'begin=5'), ({'min_ratio': 2}, 'min_ratio=2'),
    ({'min_ratio': -0.1}, 'min_ratio=-0.1'), ({'warmup': -1}, 'warm-up of -1'), ({'t0': -0.1}, 't0=-0.1'),
])
def test_a_wrong_argument_is_named(kwargs, match):
    with pytest.raises(ValueError, match=match):
        make_schedule(**kwargs)


def test_a_length_that_nobody_gave_is_an_error():
    with pytest.raises(ValueError, match='end'):
        FreezeOutLR(make_optimizer(), by_epoch=False)


def test_an_epoch_wise_schedule_says_what_to_write():
    with pytest.raises(ValueError, match='convert_to_iter_based'):
        FreezeOutLR(make_optimizer(), end=100)


def test_groups_without_a_depth_say_which_constructor_gives_one():
    with pytest.raises(ValueError, match='by_depth'):
        make_schedule(make_optimizer(depths=(None, 1)))


def test_the_usual_schedule_is_vitfreezes():
    usual = defaults(FreezeOutLR)
    assert {name: usual[name] for name in ('t0', 'schedule', 'lr_scaling', 'convention', 'warmup', 'min_ratio')} == {
        't0': 0.8, 'schedule': 'cubic', 'lr_scaling': 'scaled', 'convention': 'vitfreeze_paper', 'warmup': 0,
        'min_ratio': 0.0}
