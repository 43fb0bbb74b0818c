import pytest
import torch
from mmengine.optim import OptimWrapper, StepLR

from mm_graft.engine.reliability.optimizer_carry import Built, Saved, carry_over, group_names, parameter_names
from mm_graft.engine.reliability.schedule_replay import Place

PLACE = Place(1, 4, 4)
SHAPES = {'a': 2, 'b': 3, 'c': 4}


class Net(torch.nn.Module):

    def __init__(self):
        super().__init__()
        for name, size in SHAPES.items():
            setattr(self, name, torch.nn.Parameter(torch.ones(size)))


def built(groups, scaler=None, **settings):
    """AdamW over groups given as names with a rate, and a schedule that halves it every epoch."""
    net = Net()
    params = [dict(params=[getattr(net, name) for name in names], lr=rate) for names, rate in groups]
    wrapper = OptimWrapper(torch.optim.AdamW(params, **{'lr': 1.0, 'weight_decay': 0.1} | settings))
    if scaler is not None:
        wrapper.loss_scaler = scaler
        plain = wrapper.state_dict
        wrapper.state_dict = lambda: plain() | {'loss_scaler': scaler}
    return Built(wrapper, [StepLR(wrapper, step_size=1, gamma=0.5)], parameter_names(wrapper, net))


def trained(groups, names=True, **settings):
    """What a checkpoint has after the first epoch; the moments tell the parameters apart."""
    run = built(groups, **settings)
    for place, group in enumerate(run.wrapper.optimizer.param_groups):
        for parameter in group['params']:
            parameter.grad = torch.full_like(parameter, place + parameter.numel())
    run.wrapper.optimizer.step()
    run.schedules[0].step()
    return Saved(run.wrapper.state_dict(), [run.schedules[0].state_dict()], run.names if names else None)


def moments(saved, names):
    """Length of the first moment of each parameter, by name."""
    indices = [index for group in saved.optimizer['param_groups'] for index in group['params']]
    return {name: len(saved.optimizer['state'][index]['exp_avg']) for name, index in
            zip([name for group in names for name in group], indices) if index in saved.optimizer['state']}


TWO = [('ab', 1.0), ('c', 0.1)]


def test_names_are_those_of_the_model_in_the_order_of_the_groups():
    assert built([('ca', 1.0), ('b', 0.1)]).names == [['c', 'a'], ['b']]


def test_where_nothing_changed_what_is_saved_is_returned_as_it_is():
    saved = trained(TWO)
    result, found = carry_over(built(TWO), saved, PLACE, fresh_scaler=False)
    assert result is saved
    assert found == []


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(weight_decay=0.5), 'weight_decay of the optimizer: 0.1 → 0.5'),
    (dict(betas=(0.5, 0.9)), 'betas of the optimizer: (0.9, 0.999) → (0.5, 0.9)')])
def test_a_changed_setting_of_the_groups_holds_and_is_named(settings, message):
    saved = trained(TWO)
    result, found = carry_over(built(TWO, **settings), saved, PLACE, fresh_scaler=False)
    assert list(map(str, found)) == [message]
    key, value = next(iter(settings.items()))
    assert [group[key] for group in result.optimizer['param_groups']] == [value, value]
    assert result.optimizer['base_param_settings'][key] == value
    assert [group['lr'] for group in result.optimizer['param_groups']] == [0.5, 0.05]
    assert moments(result, saved.names) == SHAPES


def test_a_changed_rate_is_scheduled_from_the_new_one():
    result, found = carry_over(built([('ab', 4.0), ('c', 0.1)]), trained(TWO), PLACE, fresh_scaler=False)
    assert list(map(str, found)) == ['initial_lr of the optimizer: 1.0 → 4.0']
    assert [group['lr'] for group in result.optimizer['param_groups']] == [2.0, 0.05]
    assert result.schedules[0]['base_values'][:2] == [4.0, 0.1]


@pytest.mark.parametrize('names', [True, False], ids=['recorded', 'in the groups'])
def test_other_groups_take_their_parameters_state_by_name(names):
    saved = trained(TWO, names)
    if not names:
        assert group_names(saved.optimizer) is None
        for group, own in zip(saved.optimizer['param_groups'], ('ab', 'c')):
            group['param_names'] = list(own)
    new = built([('c', 0.3), ('b', 1.0), ('a', 2.0)])
    result, found = carry_over(new, saved, PLACE, fresh_scaler=False)
    assert list(map(str, found)) == ['optimizer groups: [2, 1] → [1, 1, 1]']
    assert moments(result, new.names) == SHAPES
    assert [group['lr'] for group in result.optimizer['param_groups']] == [0.15, 0.5, 1.0]


def test_parameters_that_did_not_train_begin_without_state_and_those_that_do_not_train_lose_it():
    new = built([('b', 1.0), ('c', 1.0)])
    result, _ = carry_over(new, trained([('ab', 1.0)]), PLACE, fresh_scaler=False)
    assert moments(result, new.names) == {'b': 3}


def test_without_names_groups_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r'groups of \[2, 1\] parameters, now they have \[1, 2\]'):
        carry_over(built([('a', 1.0), ('bc', 0.1)]), trained(TWO, names=False), PLACE, fresh_scaler=False)


def test_without_names_groups_of_the_same_sizes_are_taken_in_their_order():
    result, found = carry_over(built(TWO, eps=0.5), trained(TWO, names=False), PLACE, fresh_scaler=False)
    assert [change.key for change in found] == ['eps of the optimizer']
    assert moments(result, [['a', 'b'], ['c']]) == SHAPES


def test_a_schedule_at_another_place_is_brought_to_its_own():
    result, _ = carry_over(built(TWO), trained(TWO), Place(2, 8, 4), fresh_scaler=False)
    assert [group['lr'] for group in result.optimizer['param_groups']] == [0.25, 0.025]


@pytest.mark.parametrize(('scaler', 'fresh', 'scale'), [
    (dict(scale=1.0), False, 64.0), (dict(scale=1.0), True, 1.0), (None, False, None)])
def test_the_loss_scale_goes_on_unless_another_is_asked_for(scaler, fresh, scale):
    saved = trained(TWO, scaler=dict(scale=64.0))
    result, _ = carry_over(built(TWO, scaler), saved, PLACE, fresh_scaler=fresh)
    assert result.optimizer.get('loss_scaler', {}).get('scale') == scale
