import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmpretrain.models.utils import CosineEMA
from torch import nn

from mm_graft.engine.hooks.sharding_check_hook import ShardingCheckHook
from mm_graft.models.ema import CosineMomentumEMA, cosine_momentum, ema_update_
from mm_graft.sharding import FULLY_SHARD
from tests.defaults import defaults
from tests.models.selfsup.conmim_builders import config as conmim
from tests.tiny import PREPROCESSOR, grafted_mocov3, settings


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def shift(module, by):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


@pytest.fixture
def hub():
    """What a Runner leaves in the message hub."""
    hub = MessageHub.get_current_instance()
    hub.runtime_info.pop('iter', None)
    hub.update_info('max_iters', 8)
    yield hub
    hub.runtime_info.pop('max_iters')
    hub.runtime_info.pop('iter', None)


def test_momentum_starts_at_the_start_is_halfway_in_the_middle_and_approaches_the_end():
    assert cosine_momentum(0, 100, 0.99) == pytest.approx(0.99, abs=1e-15)
    assert cosine_momentum(50, 100, 0.99) == pytest.approx(0.995, abs=1e-15)
    assert cosine_momentum(25, 100, 0.9, 0.98) == pytest.approx(0.98 - 0.04 * (1 + math.sqrt(0.5)), abs=1e-15)
    assert 0.9999 < cosine_momentum(99, 100, 0.99) < 1
    assert cosine_momentum(100, 100, 0.99) == 1


def test_momentum_never_falls_and_stays_at_the_end():
    values = [cosine_momentum(t, 37, 0.5, 0.9) for t in range(100)]
    assert values == sorted(values)
    assert set(values[37:]) == {0.9}


def test_an_update_keeps_the_share_m_of_the_average():
    averaged, source = [torch.tensor([1., 2.]), torch.tensor(3.)], [torch.tensor([5., 6.]), torch.tensor(7.)]
    ema_update_(averaged, source, 0.75)
    assert averaged[0].tolist() == [2., 3.]
    assert averaged[1].item() == 4.
    ema_update_(averaged, source, 0.)
    assert torch.equal(averaged[0], source[0])
    ema_update_([], [], 0.5)


def test_it_equals_the_hosts_cosine_ema_after_the_hosts_first_copy(hub):
    source = net()
    host = CosineEMA(source, momentum=0.2)
    ours = CosineMomentumEMA(source, momentum=0.8)
    host.update_parameters(source)  # the host copies at step 0 and counts it
    ours.update_parameters(source)
    for step in range(5):
        shift(source, 0.1 * (step + 1))
        host.update_parameters(source)
        ours.update_parameters(source)
    for expected, actual in zip(host.module.parameters(), ours.module.parameters()):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-7)  # the host's momentum is a float32
    assert set(ours.state_dict()) == set(host.state_dict())


def test_each_setting_changes_the_average():
    source = net()
    results = []
    for changes in ({}, {'momentum': 0.5}, {'end_momentum': 0.995}, {'max_iters': 5}, {'first': 1}):
        follower = CosineMomentumEMA(copy.deepcopy(source), **{'max_iters': 10, **changes})
        moved = copy.deepcopy(source)
        shift(moved, 1.0)
        for _ in range(3):
            follower.update_parameters(moved)
        results.append(follower.module[0].weight[0, 0].item())
    assert len(set(results)) == len(results)


def test_the_place_on_the_cosine_counts_from_the_first():
    for first in (0, 1):
        follower, momenta = CosineMomentumEMA(net(), 0.9, max_iters=10, first=first), []
        current = follower.current_momentum
        follower.current_momentum = lambda place, current=current, kept=momenta: kept.append(current(place)) or kept[-1]
        for _ in range(3):
            follower.update_parameters(net())
        assert momenta == [cosine_momentum(first + step, 10, 0.9) for step in range(3)]


def test_it_knows_whether_a_state_dict_had_weights_for_it():
    holder = nn.Module()
    holder.other, holder.average = nn.Linear(2, 2), CosineMomentumEMA(nn.Linear(2, 2), max_iters=10)
    holder.load_state_dict(holder.state_dict())
    assert holder.average.loaded
    holder.load_state_dict({name: value for name, value in holder.state_dict().items() if 'average' not in name},
                           strict=False)
    assert not holder.average.loaded


def test_the_length_of_the_run_is_the_runners_unless_given(hub):
    assert CosineMomentumEMA(net(), 0.9).current_momentum(4) == pytest.approx(0.95)
    assert CosineMomentumEMA(net(), 0.9, max_iters=4).current_momentum(4) == 1


def test_the_place_on_the_cosine_is_the_runners_unless_the_length_is_given(hub):
    hub.update_info('iter', 4)
    source, moved = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for linear, value in ((source, 0.), (moved, 1.)):
        nn.init.constant_(linear.weight, value)
    for length, expected in (({}, 0.25), ({'max_iters': 8}, 0.5)):
        follower = CosineMomentumEMA(source, 0.5, **length)
        follower.update_parameters(moved)
        assert follower.module.weight.item() == pytest.approx(expected)
        assert follower.steps == 1


@pytest.mark.parametrize('accumulated', [1, 4])
@pytest.mark.parametrize(('model', 'first'), [
    (conmim(teacher={'momentum': 0.5}, data_preprocessor=PREPROCESSOR), 0), (grafted_mocov3(momentum=0.5), 1)])
def test_the_momentum_of_a_run_rises_to_its_end_also_with_accumulated_gradients(tmp_path, accumulated, model, first):
    cfg = settings(model, tmp_path / 'run', epochs=4)
    cfg['optim_wrapper']['accumulative_counts'] = accumulated
    runner = Runner(**cfg)
    teacher = runner.model.momentum_encoder
    momenta, current = [], teacher.current_momentum
    teacher.current_momentum = lambda iteration: momenta.append(current(iteration)) or momenta[-1]
    runner.train()
    assert momenta == pytest.approx([
        cosine_momentum(iteration + first, 16, 0.5) for iteration in range(accumulated - 1, 16, accumulated)])
    assert momenta[-1] > 0.99
    assert teacher.steps == 16 // accumulated


def test_without_a_runner_or_a_length_the_remedy_is_named():
    MessageHub.get_current_instance().runtime_info.pop('max_iters', None)
    with pytest.raises(RuntimeError, match='give max_iters'):
        CosineMomentumEMA(net()).update_parameters(net())
    CosineMomentumEMA(net(), 0.5, 0.5).update_parameters(net())  # a constant momentum needs none


@pytest.mark.parametrize('setting', [{'momentum': 1.5}, {'momentum': -0.1}, {'end_momentum': 2}])
def test_a_momentum_that_is_no_share_is_refused(setting):
    with pytest.raises(ValueError, match=rf'{next(iter(setting.values()))}.*\[0, 1\]'):
        CosineMomentumEMA(net(), **setting)


def test_buffers_are_the_copys_own():
    source = net()
    follower = CosineMomentumEMA(source, max_iters=10)
    source(torch.randn(8, 3).double())
    follower.update_parameters(source)
    assert follower.module[1].num_batches_tracked == 0
    assert source[1].num_batches_tracked == 1
    follower.copy_from(source)
    assert follower.module[1].num_batches_tracked == 1


def test_copying_takes_everything_over_and_counts_no_step():
    source = net()
    follower = CosineMomentumEMA(net(), max_iters=10)
    follower.copy_from(source)
    assert all(torch.equal(a, b) for a, b in zip(follower.module.parameters(), source.parameters()))
    assert follower.steps == 0
    shift(source, 1.0)
    assert not torch.equal(follower.module[0].weight, source[0].weight)


def test_the_average_gets_no_gradient_and_takes_none_from_the_source():
    source = net()
    follower = CosineMomentumEMA(source, max_iters=10)
    shift(source, 1.0)
    follower.update_parameters(source)
    assert not any(parameter.requires_grad for parameter in follower.module.parameters())
    assert all(parameter.grad is None for parameter in source.parameters())


def test_a_frozen_parameter_that_has_arrived_costs_nothing_and_stays():
    source = net()
    source[0].requires_grad_(False)
    follower = CosineMomentumEMA(source, max_iters=10)
    follower.update_parameters(source)
    assert follower.moving == ('1.weight', '1.bias', '2.weight', '2.bias')
    before = follower.module[0].weight.clone()
    shift(source[2], 1.0)
    follower.update_parameters(source)
    assert torch.equal(follower.module[0].weight, before)


def test_a_frozen_parameter_that_is_still_away_goes_on_moving():
    source = net()
    follower = CosineMomentumEMA(source, max_iters=10)
    shift(source, 1.0)
    follower.update_parameters(source)
    source[0].requires_grad_(False)
    follower.forget_pairs()
    before = follower.module[0].weight.clone()
    follower.update_parameters(source)
    assert (follower.module[0].weight > before).all()


def test_after_a_copy_what_is_frozen_has_arrived():
    source = net()
    source[0].requires_grad_(False)
    follower = CosineMomentumEMA(net(), max_iters=10)
    follower.update_parameters(source)
    assert '0.weight' in follower.moving
    follower.copy_from(source)
    follower.update_parameters(source)
    assert follower.moving == ('1.weight', '1.bias', '2.weight', '2.bias')


def test_momentum_rises_from_moco_v3s_to_one_unless_told_otherwise():
    assert defaults(CosineMomentumEMA) == {'momentum': 0.99, 'end_momentum': 1.0, 'max_iters': None, 'first': 0}
    assert defaults(cosine_momentum) == {'end': 1.0}


def test_a_resumed_average_goes_on_bit_for_bit():
    source = net()
    whole, first = (CosineMomentumEMA(source, 0.5, max_iters=6) for _ in range(2))
    resumed = CosineMomentumEMA(net(), 0.5, max_iters=6)
    for step in range(6):
        shift(source, 0.3)
        whole.update_parameters(source)
        if step == 2:
            resumed.update_parameters(net())
            resumed.load_state_dict(first.state_dict())
        (first if step < 2 else resumed).update_parameters(source)
    assert resumed.steps == whole.steps == 6
    assert all(torch.equal(a, b) for a, b in zip(resumed.module.parameters(), whole.module.parameters()))


def test_moving_one_parameter_by_the_hosts_interface_is_the_same():
    follower = CosineMomentumEMA(net(), 0.9, max_iters=10)
    averaged = torch.zeros(2)
    follower.avg_func(averaged, torch.ones(2), steps=5)
    assert averaged.tolist() == pytest.approx([0.05, 0.05])


def test_a_run_that_shards_its_parameters_may_have_it(monkeypatch):
    monkeypatch.setattr('mm_graft.engine.hooks.sharding_check_hook.sharding_of', lambda runner: FULLY_SHARD)
    ShardingCheckHook().before_train(SimpleNamespace(model=nn.ModuleList([net(), CosineMomentumEMA(net())])))
