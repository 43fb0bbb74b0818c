"""MoCo v3 against the authors' numbers, in double precision."""

import numpy as np
import pytest
import torch

from mm_graft.models.ema import ema_update_
from tests.parity.builders import graft_model, graft_name, to_input

NORM_BIAS = 'base_encoder.norm.bias'  # an exact zero: batch norm removes a shift of its input


@pytest.fixture
def data(read_npz):
    return read_npz('mocov3_forward.npz')


@pytest.fixture
def model(data, golden):
    model = graft_model(data)
    official = torch.load(golden / 'mocov3_tiny.pth.tar', weights_only=True)['state_dict']
    state_dict = {graft_name(name): tensor.double() for name, tensor in official.items()}
    state_dict['momentum_encoder.steps'] = torch.tensor(0)
    model.load_state_dict(state_dict, strict=True)
    return model.train()


def loss_with_momentum(model, data, momentum):
    """The authors' order: the momentum encoder moves, then it gives keys."""
    model.momentum_encoder.momentum = model.momentum_encoder.end_momentum = momentum
    model.update_momentum_encoders()
    return model.loss([to_input(data['view1']), to_input(data['view2'])])['loss']


def test_loss_equals_the_authors(model, data):
    assert loss_with_momentum(model, data, 1.0).item() == pytest.approx(float(data['loss_m1']), rel=1e-9)


def test_loss_after_the_momentum_encoder_moved_equals_the_authors(model, data):
    assert loss_with_momentum(model, data, 0.99).item() == pytest.approx(float(data['loss_m099']), rel=1e-9)


def test_gradients_and_statistics_equal_the_authors(model, data):
    loss_with_momentum(model, data, 1.0).backward()
    parameters = dict(model.named_parameters())
    trained = {name for name, parameter in parameters.items() if parameter.grad is not None}
    assert trained == {graft_name(name) for name in data['grad_names']}
    for name, norm, total in zip(data['grad_names'], data['grad_norms'], data['grad_sums']):
        gradient = parameters[graft_name(name)].grad
        if name == NORM_BIAS:
            assert gradient.norm() < 1e-12
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-7, abs=1e-13), name
            assert gradient.sum().item() == pytest.approx(total, rel=1e-6, abs=1e-9 + 1e-7 * norm), name
    buffers = dict(model.named_buffers())
    for key in (key for key in data if key.startswith('after_')):
        name = key.removeprefix('after_').replace('__', '.').replace('_running', '.running')
        np.testing.assert_allclose(buffers[graft_name(name)].numpy(), data[key], rtol=1e-9, atol=1e-12)


def test_queries_and_keys_equal_the_authors(model, data):
    views = [to_input(data['view1']), to_input(data['view2'])]
    for index, view in enumerate(views, start=1):
        query = model.head.predictor(model.neck(model.backbone(view)))[0]
        key = model.momentum_encoder(view)[0]
        np.testing.assert_allclose(query.detach().numpy(), data[f'q{index}'], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(key.detach().numpy(), data[f'k{index}'], rtol=1e-8, atol=1e-9)


def test_keys_after_an_ema_step_equal_the_authors(model, data):
    moved = list(model.momentum_encoder.module.parameters())
    source = [*model.backbone.parameters(), *model.neck.parameters()]
    ema_update_([tensor.data for tensor in moved], [tensor.data for tensor in source], 0.99)
    for index in (1, 2):
        key = model.momentum_encoder(to_input(data[f'view{index}']))[0]
        np.testing.assert_allclose(key.detach().numpy(), data[f'k{index}_m099'], rtol=1e-8, atol=1e-9)


def test_features_in_eval_mode_equal_the_authors(model, data):
    model.eval()
    view = to_input(data['view1'][:2])
    with torch.no_grad():
        feature = model.extract_feat(view)[0]
        projected = model.neck((feature, ))
        predicted = model.head.predictor(projected)
        momentum = model.momentum_encoder.module[0](view)[0]
    np.testing.assert_allclose(feature.numpy(), data['cls_feature'], rtol=1e-9)
    np.testing.assert_allclose(momentum.numpy(), data['cls_feature_momentum'], rtol=1e-9)
    np.testing.assert_allclose(projected[0].numpy(), data['proj_eval'], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(predicted[0].numpy(), data['pred_eval'], rtol=1e-8, atol=1e-10)
