"""The weight anchor against the authors' numbers."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.checkpoints.names import VIT, NameMap
from mm_graft.engine.hooks.weight_anchor import WeightAnchor, weight_distance
from tests.parity.builders import vit_arch

to_host = NameMap(VIT).to_host

FROZEN = ('pos_embed', 'patch_embed.')


@pytest.fixture
def data(read_npz):
    return read_npz('anchor_l1.npz')


@pytest.fixture
def encoder(data, golden):
    """The reference encoder, moved by the file's formula."""
    encoder = MODELS.build(dict(type='VisionTransformer', arch=vit_arch(data), img_size=int(data['cfg_img']),
                                patch_size=int(data['cfg_patch']))).double()
    reference = torch.load(golden / 'mae_tiny.pth', weights_only=True)['model']
    state_dict = encoder.state_dict()
    for index, name in enumerate(data['perturb_order']):
        tensor = reference[str(name)].double()
        element = torch.arange(1, tensor.numel() + 1, dtype=torch.float64).reshape(tensor.shape)
        shift = float(data['perturb_amplitude']) * torch.sin(float(data['perturb_frequency']) * element + index)
        state_dict[to_host(str(name))].copy_(tensor + shift)
    return encoder


def anchored(encoder, golden, max_depth, p, without=()):
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(without)))
    # the authors' rule `depth <= k` has no upper bound, the hook's depths end with the model
    hook = WeightAnchor(str(golden / 'mae_tiny.pth'), max_depth=min(int(max_depth), encoder.num_layers + 1), p=p)
    return hook.pairs(encoder)


@pytest.mark.parametrize(('p', 'key', 'key_frozen'), [(1, 'l1_all', 'l1_frozen_unchanged'),
                                                      (2, 'ours_sumsq_all', 'ours_sumsq_frozen_unchanged')])
def test_distance_equals_the_authors(encoder, data, golden, p, key, key_frozen):
    for index, k in enumerate(data['k']):
        parameters, anchors = anchored(encoder, golden, k, p)
        assert sum(parameter.numel() for parameter in parameters) == data['numel_included'][index]
        assert weight_distance(parameters, anchors, p).item() == pytest.approx(data[key][index], rel=1e-9)
        trained = anchored(encoder, golden, k, p, without=FROZEN)
        assert weight_distance(*trained, p).item() == pytest.approx(data[key_frozen][index], rel=1e-9)


def test_distance_of_each_tensor_equals_the_authors(encoder, data, golden):
    parameters, anchors = anchored(encoder, golden, int(data['cfg_depth']) + 1, 1)
    ours = {name: weight_distance([parameter], [anchor], 1).item()
            for (name, _), parameter, anchor in zip(encoder.named_parameters(), parameters, anchors)}
    for name, expected in zip(data['perturb_order'], data['param_l1']):
        assert ours[to_host(str(name))] == pytest.approx(expected, rel=1e-9)


def test_the_weighted_term_equals_the_authors(encoder, data, golden):
    parameters, anchors = anchored(encoder, golden, 8, 1)
    term = float(data['coefficient']) * weight_distance(parameters, anchors, 1)
    assert term.item() == pytest.approx(float(data['penalty_k8_all']), rel=1e-9)
    assert np.isfinite(term.item())
