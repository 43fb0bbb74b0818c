"""The optimizer's step in one kernel, which the constructor chooses."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from tests.engine.optimizers.test_graft_constructor import HALVES, build
from tests.tiny import grafted_mocov3


@pytest.mark.parametrize(('settings', 'fused'), [
    ({}, True), (dict(type='Adam'), True), (dict(fused=False), False), (dict(foreach=True), None),
    (dict(capturable=True), None)])
def test_adam_takes_its_step_in_one_kernel_unless_told_otherwise(settings, fused):
    _, optimizer = build(HALVES, **settings)
    assert optimizer.defaults['fused'] is fused


def test_other_optimizers_are_built_as_they_are():
    wrapper = build_optim_wrapper(MODELS.build(grafted_mocov3()), dict(
        constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=HALVES,
        optimizer=dict(type='Adagrad', lr=1.0)))
    assert not wrapper.optimizer.defaults['fused']


def test_the_fused_step_is_the_plain_one():
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        model, optimizer = build(HALVES, lr=1e-2, fused=fused)
        model.momentum_encoder.max_iters = 3  # it moves after each step
        for seed in range(3):
            for index, param in enumerate(model.parameters()):
                param.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(9 * index + seed))
            optimizer.step()
        weights.append(torch.cat([param.detach().flatten() for param in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
