import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from timm.models import VisionTransformer
from torch.nn import functional as F

from mm_graft.analysis.attention_map import (
    attention_weights,
    class_attention_maps,
    draw_attention_maps,
    weights_of_call,
)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


def encoders(tiny_arch):
    for name in ('VisionTransformer', 'mm_graft.ConMIMViT'):
        encoder = MODELS.build({'type': name, 'arch': tiny_arch, 'img_size': 32, 'patch_size': 8})
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        encoder.eval()
        yield encoder
    yield VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2).eval()


def test_weights_of_every_kind_of_vit_are_distributions_and_differ_by_block(tiny_arch, images):
    for encoder in encoders(tiny_arch):
        first, last = (attention_weights(encoder, images, block) for block in (0, -1))
        assert first.shape == (2, 2, 17, 17)
        torch.testing.assert_close(first.sum(-1), torch.ones(2, 2, 17))
        assert not torch.allclose(first, last)
        assert attention_weights(encoder, images, 3).equal(last)


def test_weights_reproduce_the_attention_that_was_noted():
    q, k, v, bias = (torch.randn(2, 3, 5, size) for size in (4, 4, 4, 5))
    mask = torch.rand(2, 3, 5, 5) < 0.7
    mask[..., 0] = True
    for given in (None, bias, mask):
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=given, scale=0.3)
        torch.testing.assert_close(weights_of_call(q, k, given, 0.3) @ v, expected)
        noted = attention_weights(lambda x, given=given: F.scaled_dot_product_attention(x, k, v, given, scale=0.3), q)
        torch.testing.assert_close(noted @ v, expected)


def test_what_is_not_said_of_an_attention_is_what_pytorch_takes():
    q, k, v, bias = (torch.randn(2, 3, 5, size, requires_grad=True) for size in (4, 4, 4, 5))
    for given in ({}, {'attn_mask': bias}):
        found = attention_weights(lambda x, given=given: F.scaled_dot_product_attention(x, k, v, **given), q)
        torch.testing.assert_close(found @ v, F.scaled_dot_product_attention(q, k, v, **given))
        assert not found.requires_grad


def test_an_encoder_without_fused_attention_or_such_a_block_is_refused(tiny_arch, images):
    with pytest.raises(ValueError, match='0 times'):
        attention_weights(torch.nn.Identity(), images)
    for block in (4, -5):
        with pytest.raises(ValueError, match=f'4 times, so there is no block {block}'):
            attention_weights(next(encoders(tiny_arch)), images, block)
    encoder = next(encoders(tiny_arch))
    assert attention_weights(encoder, images, -4).equal(attention_weights(encoder, images, 0))
    assert attention_weights(encoder, images).equal(attention_weights(encoder, images, 3))


def test_maps_are_shares_of_the_patches():
    weights = torch.zeros(1, 2, 5, 5)
    weights[0, :, 0] = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.2], [0.5, 0.3, 0.1, 0.1, 0.0]])
    torch.testing.assert_close(class_attention_maps(weights, (2, 2)), torch.tensor([[[0.4, 0.2], [0.2, 0.2]]]))
    with pytest.raises(ValueError, match='grid'):
        class_attention_maps(weights, (2, 3))


def test_maps_stand_below_their_images():
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    maps = np.random.default_rng(0).random((2, 4, 4))
    axes = draw_attention_maps(pictures, {'ConMIM': maps}).axes
    assert [axis.get_ylabel() for axis in axes] == ['image', '', 'ConMIM', '']
    for axis, expected in zip(axes, (*pictures, *maps), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), expected)
