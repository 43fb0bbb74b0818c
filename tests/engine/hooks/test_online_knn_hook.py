# ruff: noqa: NPY002 - pipelines draw from numpy's global state
import random

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import METRICS
from mmengine.runner import Runner
from torch import nn

from mm_graft.engine.hooks.online_knn_hook import OnlineKNNHook


class Toy(BaseModel):
    """Draws from every random state in each step, so that a disturbed one changes the weights."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    def forward(self, inputs, mode='tensor'):
        noise = torch.rand(()) + random.random() + np.random.rand()
        return {'loss': (self.backbone(torch.stack(inputs)) * noise).square().mean()}


class Greedy:
    """An evaluator that uses up randomness and turns the encoder to evaluation for a while."""

    def __init__(self, cfg):
        random.random(), np.random.rand(), torch.rand(3)
        self.calls = 0

    def evaluate(self, backbone):
        self.calls += 1
        random.random(), np.random.rand(), torch.rand(3)
        next(iter(torch.utils.data.DataLoader(torch.zeros(2, 3))))
        return {'knn_top1': 12.5}


def train(tmp_path, hooks, epochs=3):
    torch.manual_seed(0)
    runner = Runner(
        Toy(), str(tmp_path), default_scope='mmpretrain', randomness={'seed': 3}, custom_hooks=hooks,
        train_dataloader={'batch_size': 2, 'dataset': [{'inputs': torch.ones(3) * i} for i in range(4)],
                          'sampler': {'type': 'DefaultSampler', 'shuffle': True}},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}}, train_cfg={'by_epoch': True, 'max_epochs': epochs},
        experiment_name=f'{tmp_path.name}_{len(hooks)}', log_level='WARNING')
    runner.train()
    return runner


@pytest.fixture
def greedy():
    METRICS.register_module('GreedyProbe', module=Greedy, force=True)
    yield {'type': 'mmengine.GreedyProbe'}
    METRICS.module_dict.pop('GreedyProbe')


def test_run_with_and_without_the_hook_has_the_same_weights(tmp_path, greedy):
    hook = OnlineKNNHook(probe=greedy)
    with_hook = train(tmp_path / 'with', [hook]).model.state_dict()
    without = train(tmp_path / 'without', []).model.state_dict()
    assert hook.evaluator.calls == 3
    assert all(torch.equal(with_hook[name], without[name]) for name in without)


def test_evaluations_come_every_interval_and_after_the_last_epoch(tmp_path, greedy):
    hook = OnlineKNNHook(interval=2, probe=greedy)
    runner = train(tmp_path, [hook])
    assert hook.evaluator.calls == 2  # after epochs 2 and 3
    assert runner.message_hub.get_scalar('val/knn_top1').current() == 12.5


def test_wrong_interval_and_encoder_are_named_early(tmp_path, greedy):
    with pytest.raises(ValueError, match='interval=0'):
        OnlineKNNHook(interval=0)
    with pytest.raises(ValueError, match=r"encoder='teacher' is not in the model; its parts are .*backbone"):
        train(tmp_path, [OnlineKNNHook(encoder='teacher', probe=greedy)])


def test_two_of_them_have_names_and_the_start_is_scored_once(tmp_path, greedy):
    hooks = [OnlineKNNHook(probe=greedy, name=name, at_start=name == 'old') for name in ('new', 'old')]
    hub = train(tmp_path, hooks, epochs=2).message_hub
    assert [hook.evaluator.calls for hook in hooks] == [2, 3]
    assert {name for name in hub.log_scalars if 'knn' in name} == {'val/new_knn_top1', 'val/old_knn_top1'}
