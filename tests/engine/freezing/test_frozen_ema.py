"""Averages of a frozen prefix: when they have nothing left to copy, and that they then rest."""

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmpretrain.registry import MODELS
from torch import nn

from mm_graft.depth import depth_map
from mm_graft.engine.freezing.frozen_ema import (
    has_converged,
    prefix_copies,
    stop_averages,
    stop_converged_averages,
)
from tests.tiny import grafted_mocov3


@pytest.fixture
def model(tiny_arch):
    model = nn.Module()
    model.backbone = MODELS.build(dict(type='VisionTransformer', arch=tiny_arch, img_size=32, patch_size=8))
    model.neck = nn.Linear(16, 4)
    model.teacher = ExponentialMovingAverage(nn.Sequential(model.backbone, model.neck), momentum=.5)
    return model


def move(model):
    with torch.no_grad():
        for param in model.backbone.parameters():
            param.add_(torch.randn_like(param))


def update(model):
    model.teacher.update_parameters(nn.Sequential(model.backbone, model.neck))


def test_a_difference_at_rounding_counts_as_convergence_and_a_larger_one_does_not():
    for source in (torch.tensor([1., 100.]), torch.tensor([1., -100.])):
        for sign in (1, -1):
            assert has_converged(source + sign * torch.tensor([9e-4, 0]), source)
            assert not has_converged(source + sign * torch.tensor([1.1e-3, 0]), source)
    assert has_converged(torch.zeros(2), torch.zeros(2))
    assert not has_converged(torch.tensor([0., -1e-30]), torch.zeros(2))


def test_copies_are_those_of_the_backbone_at_the_depth_or_below(model):
    names = {item.name for item in prefix_copies(model, depth_map(model), 1)}
    assert {'0.cls_token', '0.patch_embed.projection.weight', '0.layers.0.ln1.weight'} <= names
    assert not any(name.startswith(('0.layers.1', '0.ln1', '1.')) for name in names)


def test_an_average_on_its_way_is_left_alone(model):
    update(model)
    move(model)
    update(model)
    count = len(model.teacher.avg_parameters)
    assert not stop_converged_averages(model, depth_map(model), 1)
    assert len(model.teacher.avg_parameters) == count


@pytest.mark.parametrize(('name', 'stops'), [
    ('cls_token', False), ('layers.0.ffn.layers.1.bias', False), ('layers.1.ln1.weight', True), ('ln1.bias', True)])
def test_one_parameter_of_the_prefix_on_its_way_is_enough_and_those_above_do_not_count(model, name, stops):
    update(model)
    with torch.no_grad():
        model.backbone.get_parameter(name).add_(1.)
    copies = {key: average.clone() for key, average in model.teacher.module.named_parameters()}
    assert stop_converged_averages(model, depth_map(model), 1) == stops
    assert all(torch.equal(average, copies[key]) for key, average in model.teacher.module.named_parameters())


def test_a_converged_average_becomes_equal_and_is_no_longer_updated(model):
    update(model)
    keys = list(model.state_dict())
    assert stop_converged_averages(model, depth_map(model), 1)
    first, second = model.teacher.module[0].layers[:2]
    before = [first.ln1.weight.clone(), second.ln1.weight.clone()]
    move(model)
    update(model)
    assert torch.equal(first.ln1.weight, before[0])
    assert not torch.equal(second.ln1.weight, before[1])
    assert list(model.state_dict()) == keys


def test_an_average_that_keeps_a_list_of_what_moves_makes_it_anew():
    model = MODELS.build(grafted_mocov3())
    model.momentum_encoder.max_iters = 10
    model.update_momentum_encoders()
    assert 'layers.0.ln1.weight' in {name.removeprefix('0.') for name in model.momentum_encoder.moving}
    assert stop_converged_averages(model, depth_map(model), 1)
    assert model.momentum_encoder.moving is None


def test_a_resumed_run_stops_what_had_converged(model):
    update(model)
    stop_averages(model, depth_map(model), 1)
    assert prefix_copies(model, depth_map(model), 1) == []
    assert not stop_converged_averages(model, depth_map(model), 1)


def test_a_model_without_averages_has_nothing_to_stop(tiny_arch):
    backbone = MODELS.build(dict(type='VisionTransformer', arch=tiny_arch, img_size=32, patch_size=8))
    assert not stop_converged_averages(backbone, depth_map(backbone), 1)
