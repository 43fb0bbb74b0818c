import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mm_graft.engine.optimizers import autocast_optim_wrapper


def build(**kwargs):
    model = nn.Linear(3, 2)
    return model, build_optim_wrapper(model, dict(
        type='mm_graft.AutocastOptimWrapper', optimizer=dict(type='SGD', lr=0.5)) | kwargs)


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(autocast_optim_wrapper, 'has_bfloat16', lambda device: True)


def test_without_bf16_in_hardware_the_forward_is_in_fp32_and_the_log_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(autocast_optim_wrapper, 'has_bfloat16', lambda device: False)
    monkeypatch.setattr(autocast_optim_wrapper, '_say_float32', said.append)
    model, wrapper = build()
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 3)).dtype == torch.float32
    assert said == ['cpu']


def test_the_forward_is_in_bf16_and_the_weights_are_not(native):
    model, wrapper = build()
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 3))
    assert output.dtype == torch.bfloat16
    assert model.weight.dtype == torch.float32
    assert model(torch.ones(1, 3)).dtype == torch.float32
    output.float().sum().backward()
    assert model.weight.grad.dtype == torch.float32


def test_a_step_is_an_unscaled_one():
    model, wrapper = build()
    before = model.weight.clone()
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 3)).float().sum()
    wrapper.update_params(loss)
    torch.testing.assert_close(model.weight, before - 0.5)
    assert not hasattr(wrapper, 'loss_scaler')


def test_it_takes_the_settings_of_mmengines_wrapper():
    model, wrapper = build(accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.clone()
    for moved in (False, True):
        with wrapper.optim_context(model):
            wrapper.update_params(model(torch.ones(1, 3)).float().sum())
        assert torch.equal(model.weight, before) != moved
    torch.testing.assert_close(model.weight, before - 0.5)  # the mean of two equal gradients


@pytest.mark.parametrize('kept', [False, True])
def test_clipping_is_the_hosts_and_its_norm_goes_to_who_wants_it(kept):
    model, wrapper = build(clip_grad=dict(max_norm=0.5))
    norms, before = [], torch.cat([param.flatten() for param in model.parameters()]).detach()
    if kept:
        wrapper.keep_norm = lambda name, norm: norms.append((name, norm))
    wrapper.update_params(model(torch.ones(1, 3)).sum())
    after = torch.cat([param.flatten() for param in model.parameters()]).detach()
    assert (before - after).norm() == pytest.approx(0.5 * 0.5)  # half the step of a gradient of length 0.5
    expected = [('train/grad_norm', pytest.approx(8**0.5))] if kept else []
    assert [(name, norm.item()) for name, norm in norms] == expected


def test_a_model_without_gradients_is_not_clipped():
    _, wrapper = build(clip_grad=dict(max_norm=0.5))
    wrapper.keep_norm = lambda name, norm: pytest.fail('there is no norm')
    wrapper._clip_grad()


def test_its_prefix_finds_it():
    assert OPTIM_WRAPPERS.get('mm_graft.AutocastOptimWrapper').__name__ == 'AutocastOptimWrapper'
