import copy

import pytest
import torch
from torch import nn

from mm_graft.models.heads.dino_head import DINOHead, WeightNormLinear


def small(**changes):
    return DINOHead(**{'in_channels': 6, 'out_channels': 10, 'hid_channels': 12, 'bottleneck_channels': 4, **changes})


def test_scores_are_cosines_with_the_prototypes():
    head = small()
    x = torch.randn(5, 6)
    torch.testing.assert_close(
        head(x), nn.functional.cosine_similarity(head.mlp(x)[:, None], head.last_layer.weight_v[None], dim=-1))


def test_lengths_scale_the_scores_and_the_length_of_v_does_not():
    layer, x = WeightNormLinear(4, 3, train_norms=True), torch.randn(2, 4)
    before = layer(x)
    with torch.no_grad():
        layer.weight_v *= 7
        torch.testing.assert_close(layer(x), before)
        layer.weight_g *= 2
    torch.testing.assert_close(layer(x), 2 * before)


@pytest.mark.parametrize('train_norms', [False, True])
def test_lengths_train_only_if_asked(train_norms):
    head = small(train_norms=train_norms)
    head(torch.randn(5, 6)).square().sum().backward()
    assert all(parameter.grad.any() for name, parameter in head.named_parameters() if 'weight_g' not in name)
    assert (head.last_layer.weight_g.grad is not None) == train_norms


def test_it_can_be_copied_after_a_forward_pass_and_layers_count():
    head = small()
    x = torch.randn(3, 6)
    scores = head(x)
    torch.testing.assert_close(copy.deepcopy(head)(x), scores)
    assert [sum(isinstance(layer, nn.Linear) for layer in small(num_layers=n).mlp) for n in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(ValueError, match='num_layers=0'):
        small(num_layers=0)


def test_initial_weights_are_small_and_biases_zero():
    head = DINOHead(512, out_channels=4)
    assert head.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not head.mlp[0].bias.any()
    assert torch.equal(head.last_layer.weight_g, torch.ones(4, 1))


def test_no_images_give_no_scores():
    assert small()(torch.zeros(0, 6)).shape == (0, 10)
