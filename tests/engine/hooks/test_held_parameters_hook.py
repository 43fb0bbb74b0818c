from itertools import pairwise

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mm_graft.engine.hooks.held_parameters_hook import HeldParametersHook
from tests.tiny import self_distillation, settings


class Values(Hook):
    """Notes the held and another tensor before every iteration, and whether the optimizer knows the held one."""

    def __init__(self):
        self.held, self.other, self.known = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        parameter = runner.model.head.last_layer.weight_v
        self.held.append(parameter.detach().clone())
        self.other.append(runner.model.head.mlp[0].weight.detach().clone())
        self.known.append(parameter in runner.optim_wrapper.optimizer.state)


def train(folder, epochs=3, resume=False, parts=('head.last_layer', ), held=2, **kwargs):
    runner = Runner(**settings(self_distillation(mask_generator=None), folder, epochs=epochs, resume=resume, **kwargs))
    values = Values()
    runner.register_hook(HeldParametersHook(list(parts), held))
    runner.register_hook(values)
    runner.train()
    return runner, values


def moves(values):
    return [not torch.equal(*pair) for pair in pairwise(values)]


def test_they_rest_for_the_first_epochs_without_decay_or_state_and_then_move(tmp_path):
    runner, values = train(tmp_path / 'run')
    assert moves(values.held) == [False] * 8 + [True] * 3  # four iterations an epoch
    assert moves(values.other) == [True] * 11
    assert values.known == [False] * 9 + [True] * 3
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_a_resumed_run_counts_the_epochs_before(tmp_path):
    checkpoint = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    train(tmp_path / 'run', epochs=1, default_hooks=checkpoint)
    _, values = train(tmp_path / 'run', epochs=3, resume=True, default_hooks=checkpoint)
    assert moves(values.held) == [False] * 4 + [True] * 3


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match='holds nothing'):
        HeldParametersHook(['head'], epochs=0)
    with pytest.raises(ValueError, match="begins with 'heads'"):
        train(tmp_path / 'run', parts=['heads'])
    with pytest.raises(ValueError, match='EpochBasedTrainLoop'):
        train(tmp_path / 'other', train_cfg=dict(type='IterBasedTrainLoop', max_iters=2))
