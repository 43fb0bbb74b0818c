import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from torch.nn import functional as F

from mm_graft.depth import depth_map
from mm_graft.gradients import (
    block_gradients,
    compare,
    gradient_conflict,
    parameters_by_block,
    terms_conflict,
    undisturbed,
)
from tests.engine.freezing.freezeout_runs import localmim
from tests.tiny import VIT, grafted_mocov3


@pytest.fixture
def encoder():
    return MODELS.build(dict(type='VisionTransformer', **VIT)).double()


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, dtype=torch.float64)


@pytest.fixture
def losses(encoder, images):
    directions = torch.randn(2, 16, dtype=torch.float64)
    return [lambda d=d: (encoder(images)[0] @ d).square().mean() for d in directions]


def test_cosine_is_that_of_all_trained_parameters_of_a_block_in_one_vector(encoder, losses):
    found = gradient_conflict(encoder, *losses)
    assert found.cosine.shape == (4, )
    for index, block in enumerate(encoder.layers):
        vectors = []
        for loss in losses:
            encoder.zero_grad()
            loss().backward()
            vectors.append(torch.cat([parameter.grad.flatten() for parameter in block.parameters()]))
        assert found.cosine[index].item() == pytest.approx(F.cosine_similarity(*vectors, dim=0).item(), rel=1e-9)
        assert found.dot[index].item() == pytest.approx((vectors[0] @ vectors[1]).item(), rel=1e-9)
        assert found.second_norm[index].item() == pytest.approx(vectors[1].norm().item(), rel=1e-9)


def test_a_loss_agrees_with_itself_and_opposes_its_negative(encoder, losses):
    first = losses[0]
    torch.testing.assert_close(gradient_conflict(encoder, first, first).cosine, torch.ones(4).double())
    torch.testing.assert_close(gradient_conflict(encoder, first, lambda: -3 * first()).cosine, -torch.ones(4).double())


def test_swapping_the_losses_swaps_the_norms_only(encoder, losses):
    one, other = gradient_conflict(encoder, *losses), gradient_conflict(encoder, *losses[::-1])
    torch.testing.assert_close(one.cosine, other.cosine)
    torch.testing.assert_close(one.first_norm, other.second_norm)


def test_two_terms_of_one_forward_conflict_as_two_losses_do(encoder, losses):
    terms = terms_conflict(encoder, lambda: {'a': losses[0](), 'b': losses[1](), 'acc': torch.ones(3)}, ('a', 'b'))
    torch.testing.assert_close(terms.cosine, gradient_conflict(encoder, *losses).cosine)
    for name, term in {'rows': losses[1]() * torch.ones(3), 'acc': torch.ones(()), 'number': 1.0, 'b': None}.items():
        with pytest.raises(ValueError, match=rf"'{name}' is no scalar.*\['a', '{name}'\]"):
            terms_conflict(encoder, lambda term=term, name=name: {'a': losses[0](), name: term}, ('a', name))


def test_gradients_of_the_model_are_left_alone(encoder, losses):
    (2 * losses[0]()).backward()
    before = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()
              if parameter.grad is not None}
    gradient_conflict(encoder, *losses)
    after = {name: parameter.grad for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_frozen_blocks_and_those_a_loss_does_not_reach_have_no_cosine(encoder, images):
    encoder.layers[0].requires_grad_(False)
    tokens = [*encoder.layers.parameters()][-1]
    found = gradient_conflict(encoder, lambda: encoder(images)[0].square().sum(), lambda: tokens.square().sum())
    assert found.cosine.isnan().tolist() == [True, True, True, False]
    encoder.layers.requires_grad_(False)
    with pytest.raises(ValueError, match='no block of the encoder trains'):
        parameters_by_block(encoder)


def test_only_the_blocks_of_the_encoder_count_not_heads_or_copies():
    model = MODELS.build(grafted_mocov3())
    blocks = parameters_by_block(model)
    assert [len(block) for block in blocks] == [12] * 4
    ours = {id(parameter) for block in blocks for parameter in block}
    assert ours == {id(parameter) for parameter in model.backbone.layers.parameters()}


def test_decoders_that_are_as_deep_as_a_block_are_no_part_of_it():
    model = MODELS.build(localmim())
    assert depth_map(model).depths['neck.decoders.0.mask_token'] >= 1
    ours = {id(parameter) for block in parameters_by_block(model) for parameter in block}
    assert ours.issuperset(id(parameter) for parameter in model.backbone.layers.parameters())
    assert ours.isdisjoint(id(parameter) for parameter in model.neck.parameters())


def test_mixed_precision_is_off_and_half_weights_are_compared_in_single(encoder, images):
    encoder.float()
    seen = []
    encoder.layers[0].ffn.layers[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        encoder(images.float())
        gradient_conflict(encoder, *[lambda: encoder(images.float())[0].square().sum()] * 2)
    assert seen == [torch.bfloat16, torch.float32, torch.float32]
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    vectors = block_gradients(weight.sum(), [[weight]])
    assert compare(vectors, vectors).cosine.dtype == torch.float32


def test_forwards_that_are_to_leave_no_trace_move_neither_averages_nor_statistics(monkeypatch):
    config = {**grafted_mocov3(), 'type': 'MoCoV3', 'base_momentum': 0.5}
    del config['momentum']
    model = MODELS.build(config).train()  # the host's, which moves the average in its loss
    monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, 'max_iters', 10)
    model.momentum_encoder.steps += 1  # at 0 it would copy
    with torch.no_grad():
        model.backbone.cls_token.add_(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    views = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    with undisturbed(model):
        model.loss(views, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.loss(views, None)
    after = model.state_dict()
    assert not torch.equal(after['momentum_encoder.module.0.cls_token'], before['momentum_encoder.module.0.cls_token'])
    assert not torch.equal(after['neck.bn0.running_mean'], before['neck.bn0.running_mean'])
