import gc
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from mm_graft.host import step_watch
from mm_graft.host.step_watch import call_after_steps, trains


class Counter(nn.Linear):
    steps = 0

    def count(self):
        self.steps += 1


def step(*modules, **kwargs):
    optimizer = torch.optim.AdamW([p for module in modules for p in module.parameters()], **kwargs)
    sum(module(torch.ones(1, 2)).sum() for module in modules).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize('kind', [{}, {'foreach': True}, {'fused': True}])
def test_every_step_counts_once_however_often_it_is_asked_for(kind):
    module = Counter(2, 2)
    for _ in range(3):
        call_after_steps(module, Counter.count)
        step(module, **kind)
    assert module.steps == 3


def test_steps_of_others_do_not_count_and_a_copy_is_watched_on_its_own():
    module, other = Counter(2, 2), Counter(2, 2)
    call_after_steps(module, Counter.count)
    step(other)
    assert module.steps == 0
    step(module, other)
    assert module.steps == 1
    copy = deepcopy(module)
    step(copy)
    assert (module.steps, copy.steps) == (1, 1)
    call_after_steps(copy, Counter.count)
    step(copy)
    assert (module.steps, copy.steps) == (1, 2)
    assert trains(torch.optim.SGD(copy.parameters()), copy)
    assert not trains(torch.optim.SGD(copy.parameters()), module)


def test_modules_come_and_go_within_a_step_and_leave_nothing_behind():
    gc.collect()
    before, kept = len(step_watch._WATCHED), []

    class Born(Counter):
        def count(self):
            kept.clear()
            gc.collect()  # the other one goes
            call_after_steps(Counter(1, 1), Counter.count)  # and one comes

    module, other = Born(2, 2), Counter(2, 2)
    other.itself = [other]  # only the collector finds it
    for each in (module, other):
        call_after_steps(each, type(each).count)
    kept.append(other)
    del other, each
    step(module)
    assert len(torch_optimizer._global_optimizer_post_hooks) == 1
    del module
    gc.collect()
    assert len(step_watch._WATCHED) == before
