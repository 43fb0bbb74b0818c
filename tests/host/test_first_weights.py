import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import Runner

from mm_graft.host.first_weights import after_init_weights
from tests.tiny import grafted_mocov3, settings


class Initialized(BaseModule):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def init_weights(self):
        self.calls.append('own')


@pytest.mark.parametrize(('build', 'expected'), [
    (Initialized, ['own', 'then', 'own']), (lambda calls: torch.nn.Linear(1, 1), ['then'])])
def test_it_follows_the_next_initialization_and_no_other(build, expected):
    calls = []
    model = build(calls)
    after_init_weights(model, lambda: calls.append('then'))
    model.init_weights()
    if hasattr(model, 'init_weights'):
        model.init_weights()
    assert calls == expected


def test_the_runner_initializes_by_the_models_own_method(tmp_path):
    runner, calls = Runner(**settings(grafted_mocov3(), tmp_path)), []
    after_init_weights(runner.model, lambda: calls.append(runner.iter))
    runner.train()
    assert calls == [0]
