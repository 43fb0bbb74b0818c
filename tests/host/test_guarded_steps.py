"""These fail if MMEngine's wrapper takes its steps in another way, or PyTorch's fused optimizers ignore `found_inf`."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, ConstantLR, OptimWrapper
from torch import nn

from mm_graft.host.guarded_steps import guard_steps, has_scaler, skips_on_device, unguard_steps


def wrap(fused=False, kind=torch.optim.AdamW, **kwargs):
    weight = nn.Parameter(torch.ones(2))
    return weight, OptimWrapper(kind([weight], lr=0.1, weight_decay=0.5, fused=fused), **kwargs)


@pytest.mark.parametrize('kind', [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize('fused', [False, True])
def test_a_step_that_is_judged_bad_changes_nothing_and_the_next_one_counts(fused, kind):
    weight, wrapper = wrap(fused, kind)
    verdicts = [torch.tensor(1), torch.tensor(0)]
    guard_steps(wrapper, lambda loss: None, lambda: verdicts.pop(0))
    wrapper.update_params(weight.sum())
    assert weight.tolist() == [1, 1]
    wrapper.update_params(weight.sum())
    assert (weight < 1).all()
    assert not verdicts


def test_schedules_of_the_host_still_find_their_counter_on_a_guarded_step(recwarn):
    """MMEngine would warn that the step has been overridden."""
    weight, wrapper = wrap()
    schedule = ConstantLR(wrapper)
    guard_steps(wrapper, lambda loss: None, lambda: torch.tensor(0))
    wrapper.update_params(weight.sum())
    schedule.step()
    assert not [str(warning.message) for warning in recwarn if 'optimizer.step()' in str(warning.message)]


def test_losses_are_noted_and_judged_once_a_step_before_clipping():
    weight, wrapper = wrap(accumulative_counts=2, clip_grad=dict(max_norm=1e-3))
    noted, gradients = [], []

    def judge():
        gradients.append(weight.grad.clone())
        return torch.tensor(0)

    guard_steps(wrapper, noted.append, judge)
    for factor in (2.0, 4.0, 6.0):
        wrapper.update_params(factor * weight.sum())
    assert [loss.item() for loss in noted[:2]] == [2.0, 4.0]  # halves, as they are accumulated
    assert not noted[0].requires_grad
    assert [gradient.tolist() for gradient in gradients] == [[3.0, 3.0]]


def test_a_scaler_decides_by_itself():
    assert not has_scaler(wrap()[1])
    assert has_scaler(AmpOptimWrapper.__new__(AmpOptimWrapper))


def test_only_an_optimizer_that_is_fused_in_all_groups_skips_on_the_device():
    assert skips_on_device(wrap(True)[1])
    wrapper = wrap(True)[1]
    wrapper.optimizer.add_param_group(dict(params=[nn.Parameter(torch.ones(1))], fused=False))
    assert not skips_on_device(wrapper)


def test_a_wrapper_is_left_as_it_was():
    weight, wrapper = wrap(True)
    guard_steps(wrapper, lambda loss: None, lambda: torch.tensor(1))
    wrapper.update_params(weight.sum())
    unguard_steps(wrapper)
    wrapper.update_params(weight.sum())
    assert (weight < 1).all()
    unguard_steps(wrapper)  # does no harm twice
