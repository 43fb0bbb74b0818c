import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from mm_graft.models.necks.simple_feature_pyramid import SimpleFeaturePyramid
from tests.defaults import defaults


def build(**kwargs):
    return MODELS.build(dict(type='mm_graft.SimpleFeaturePyramid', in_channels=16, out_channels=8) | kwargs)


def test_the_levels_have_the_sides_that_their_strides_say():
    maps = build()([torch.randn(2, 16, 4, 6)])
    assert [tuple(level.shape) for level in maps] == [
        (2, 8, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6), (2, 8, 2, 3), (2, 8, 1, 2)]
    *_, before, last = build()([torch.randn(1, 16, 8, 8)])
    assert torch.equal(last, before[..., ::2, ::2])
    assert len(build(num_outs=4)([torch.randn(1, 16, 4, 4)])) == 4


def test_only_the_last_map_counts_and_every_parameter_learns():
    pyramid, last = build(), torch.randn(1, 16, 4, 4)
    first = pyramid([torch.randn(1, 16, 4, 4), last])
    for left, right in zip(first, pyramid([last])):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    sum(level.square().sum() for level in first).backward()
    assert all(parameter.grad.any() for parameter in pyramid.parameters())


def test_each_deconvolution_halves_the_width():
    pyramid = build()
    first, norm, _, second = pyramid.samplers[0]
    assert [tuple(layer.weight.shape) for layer in (first, norm, second, pyramid.samplers[1])] == [
        (16, 8, 2, 2), (8, ), (8, 4, 2, 2), (16, 8, 2, 2)]
    assert {name.split('.')[0] for name in pyramid.state_dict()} == {'samplers', 'outputs'}


def test_a_level_is_convolution_norm_convolution_norm():
    pyramid, maps = build(), torch.randn(2, 16, 4, 6)
    for parameter in pyramid.parameters():
        torch.nn.init.normal_(parameter)
    state = pyramid.outputs[2].state_dict()
    x = F.conv2d(maps, state['0.weight'])
    x = F.layer_norm(x.movedim(1, -1), (8, ), state['1.weight'], state['1.bias'], 1e-6).movedim(-1, 1)
    x = F.conv2d(x, state['2.weight'], padding=1)
    x = F.layer_norm(x.movedim(1, -1), (8, ), state['3.weight'], state['3.bias'], 1e-6).movedim(-1, 1)
    torch.testing.assert_close(pyramid([maps])[2], x, rtol=1e-4, atol=1e-4)


def test_fewer_than_four_levels_are_refused():
    with pytest.raises(ValueError, match='num_outs=3'):
        build(num_outs=3)


def test_the_usual_pyramid_is_vitdets():
    usual = defaults(SimpleFeaturePyramid)
    assert (usual['out_channels'], usual['num_outs']) == (256, 5)
