"""These fail if MMEngine's optimizer wrapper counts the iterations of a step in another way."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mm_graft.host.accumulation import iterations_a_step


@pytest.mark.parametrize('count', [1, 3])
def test_so_many_iterations_make_a_step(count):
    weight = nn.Parameter(torch.ones(1))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=1.0), accumulative_counts=count)
    moved = []
    for _ in range(2 * iterations_a_step(wrapper)):
        before = weight.item()
        wrapper.update_params(weight.sum())
        moved.append(weight.item() != before)
    assert moved == ([False] * (count - 1) + [True]) * 2


def test_a_plain_optimizer_steps_each_time():
    assert iterations_a_step(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)) == 1
