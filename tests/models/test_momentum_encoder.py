"""Averages under names of their own, as a method inherits them."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import nn

from mm_graft.models.ema import CosineMomentumEMA
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from tests.tiny import PREPROCESSOR, grafted_mocov3


class Pair(HasMomentumEncoder, BaseSelfSupervisor):
    """Two networks, an average of one and one of both, under names of their own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tutor = self.follow('backbone', momentum=0.75, end_momentum=0.75)
        self.nested = nn.ModuleDict({'both': self.follow('backbone', 'neck', momentum=0.5, end_momentum=0.5)})

    def averages(self):
        """Each tensor of each average, and what it follows."""
        backbone, (own, neck) = self.tutor.module, self.nested['both'].module
        for average, source in ((backbone, self.backbone), (own, self.backbone), (neck, self.neck)):
            yield from zip(average.state_dict().values(), source.state_dict().values(), strict=True)

    def loss(self, inputs, data_samples=None):
        return {'loss': self.neck((self.backbone(inputs)[-1], ))[0].square().mean()}


@pytest.fixture
def pair():
    config = grafted_mocov3()
    return Pair(backbone=config['backbone'], neck=config['neck'], data_preprocessor=PREPROCESSOR).train()


def are_copies(model):
    return all(torch.equal(*tensors) for tensors in model.averages())


def move(model):
    """Let source and average differ everywhere."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 1)


def test_every_average_starts_as_a_copy_whatever_its_name(pair):
    for start in (pair.init_weights, pair.start_momentum_encoders):
        move(pair)
        assert not are_copies(pair)
        start()
        assert are_copies(pair)
    move(pair)
    pair.load_state_dict(pair.state_dict())
    assert not are_copies(pair)
    pair.init_weights()
    assert are_copies(pair)
    assert {'tutor.module.cls_token', 'nested.both.module.0.cls_token', 'nested.both.module.1.fc0.weight'} \
        <= set(pair.state_dict())
    assert not any(parameter.requires_grad for parameter in [*pair.tutor.parameters(), *pair.nested.parameters()])


@pytest.mark.parametrize('load', [load_state_dict, lambda model, state: model.load_state_dict(state, strict=False)])
def test_averages_are_copies_of_what_a_file_without_them_loads_and_keep_what_a_file_gives(pair, load):
    move(pair)
    whole = {name: tensor.clone() for name, tensor in pair.state_dict().items()}
    plain = {name: tensor for name, tensor in whole.items() if name.startswith(('backbone.', 'neck.'))}
    move(pair)
    load(pair, plain)
    assert torch.equal(pair.backbone.cls_token, whole['backbone.cls_token'])
    assert are_copies(pair)
    load(pair, whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in pair.state_dict().items())
    one = plain | {name: tensor for name, tensor in whole.items() if name.startswith('nested.')}
    load(pair, one)
    assert torch.equal(pair.tutor.module.cls_token, pair.backbone.cls_token)
    assert torch.equal(pair.nested['both'].module[0].cls_token, whole['nested.both.module.0.cls_token'])


def test_weights_of_the_whole_algorithm_are_not_overwritten_by_initialization(pair, tmp_path):
    move(pair)
    torch.save({'state_dict': pair.state_dict()}, tmp_path / 'whole.pth')
    config = grafted_mocov3()
    model = Pair(backbone=config['backbone'], neck=config['neck'], data_preprocessor=PREPROCESSOR,
                 init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'whole.pth')))
    model.init_weights()
    assert all(torch.equal(*tensors) for tensors in zip(model.state_dict().values(), pair.state_dict().values()))


def train(model, steps=1, accumulated=1, **kind):
    """Steps of a model by itself, and what averages and sources were before."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, **kind)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulated)
    before = [average.clone() for average, _ in model.averages()]
    for _ in range(steps * accumulated):
        model.train_step({'inputs': torch.randint(0, 255, (4, 3, 32, 32)), 'data_samples': None}, wrapper)
    return before


@pytest.mark.parametrize('kind', [{'foreach': True}, {'fused': True}])
@pytest.mark.parametrize('accumulated', [1, 3])
def test_each_average_moves_once_after_an_optimizer_step_towards_its_source(pair, kind, accumulated):
    pair.init_weights()
    own = {name: tensor.clone() for name, tensor in pair.state_dict().items()}
    train(pair, accumulated=accumulated, **kind)
    assert (pair.tutor.steps, pair.nested['both'].steps) == (1, 1)
    for name, source in pair.backbone.named_parameters():
        start = own[f'backbone.{name}']
        torch.testing.assert_close(pair.tutor.module.get_parameter(name), 0.75 * start + 0.25 * source)
        torch.testing.assert_close(pair.nested['both'].module[0].get_parameter(name), 0.5 * start + 0.5 * source)
    assert not torch.equal(pair.neck.fc0.weight, own['neck.fc0.weight'])
    torch.testing.assert_close(
        pair.nested['both'].module[1].fc0.weight, 0.5 * own['neck.fc0.weight'] + 0.5 * pair.neck.fc0.weight)


def test_a_loss_changes_no_average_and_a_step_of_others_neither(pair):
    move(pair)
    before = [average.clone() for average, _ in pair.averages()]
    pair(torch.randn(4, 3, 32, 32), mode='loss')['loss'].backward()
    other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    other.step()
    assert all(torch.equal(now, then) for (now, _), then in zip(pair.averages(), before))


def test_an_average_that_follows_nothing_of_the_model_is_left_alone(pair):
    pair.extra = CosineMomentumEMA(nn.Linear(2, 2), 0.5, 0.5)
    weight = pair.extra.module.weight.clone()
    pair.init_weights()
    train(pair)
    assert torch.equal(pair.extra.module.weight, weight)
    assert (pair.extra.steps, pair.tutor.steps) == (0, 1)


def test_a_copy_of_the_model_trains_its_own_averages(pair):
    pair.init_weights()
    twin = copy.deepcopy(pair)
    train(twin, steps=2)
    assert (pair.tutor.steps, twin.tutor.steps) == (0, 2)
    assert are_copies(pair)
    assert not are_copies(twin)


def test_a_resumed_model_goes_on_bit_for_bit(pair):
    pair.init_weights()
    twin = copy.deepcopy(pair)
    torch.manual_seed(1)
    train(pair)
    state = copy.deepcopy(pair.state_dict())
    torch.manual_seed(2)
    train(pair)
    move(twin)
    twin.load_state_dict(state)
    torch.manual_seed(2)
    train(twin)
    assert twin.tutor.steps == 2
    assert all(torch.equal(*tensors) for tensors in zip(pair.state_dict().values(), twin.state_dict().values()))
