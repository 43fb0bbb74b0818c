"""The first token, as the whole block gives it."""

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer

from benchmarks.costs import count_flops
from mm_graft.models.backbones.class_token import attend_from_first, class_token_through


def block(**kwargs):
    torch.manual_seed(0)
    layer = TransformerEncoderLayer(16, 2, 64, **kwargs).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer, torch.randn(3, 5, 16, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize('kwargs', [{}, dict(qkv_bias=False), dict(layer_scale_init_value=0.3)], ids=str)
def test_it_is_the_first_token_of_the_whole_block_with_its_gradients(kwargs):
    layer, tokens = block(**kwargs)
    inputs = [tokens, *layer.parameters()]
    whole, lean = layer(tokens)[:, :1], class_token_through(layer, tokens)
    torch.testing.assert_close(lean, whole)
    weights = torch.randn_like(whole)
    for result, expected in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in (lean, whole))):
        torch.testing.assert_close(result, expected)


def test_attention_drops_in_training_and_not_in_evaluation():
    layer, tokens = block(attn_drop_rate=0.5)
    first, second = (attend_from_first(layer.attn.train(), tokens) for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(attend_from_first(layer.attn.eval(), tokens), layer.attn(tokens)[:, :1])


def test_long_sequences_cost_a_sixth():
    layer, _ = block()
    tokens = torch.randn(1, 500, 16, dtype=torch.double)
    linear = [count_flops(lambda run=run: run().sum()) for run in (
        lambda: class_token_through(layer, tokens), lambda: layer(tokens))]
    attention = 3 * 4 * 16 * 500  # of one query
    assert linear[0] - attention == pytest.approx((linear[1] - 500 * attention) / 6, rel=0.02)


def test_drop_path_leaves_out_whole_images_and_dropout_single_numbers():
    layer, _ = block(drop_path_rate=0.5)
    first = attend_from_first(layer.attn.train(), torch.randn(64, 5, 16, dtype=torch.double))
    dropped = (first == 0).all(-1)[:, 0]
    assert 10 < dropped.sum() < 54
    layer, _ = block(drop_rate=0.5)
    zeros = attend_from_first(layer.attn.train(), torch.randn(64, 5, 16, dtype=torch.double)) == 0
    assert zeros.double().mean().item() == pytest.approx(0.5, abs=0.1)
