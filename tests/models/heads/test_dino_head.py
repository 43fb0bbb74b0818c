import copy

import pytest
import torch
from torch import nn

from mm_graft.models.heads.dino_head import DINOHead, WeightNormLinear
from tests.defaults import defaults


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


def test_a_short_feature_in_half_precision_is_as_long_as_its_precision_allows():
    head = small().half()
    with torch.no_grad():
        for layer in head.mlp[::2]:
            layer.weight.zero_()
        head.mlp[-1].bias.fill_(2.0**-18)  # of length 2⁻¹⁷, whose ε in single precision would be 0 here
        scores = head(torch.zeros(2, 6, dtype=torch.float16))
        torch.testing.assert_close(head.float()(torch.zeros(2, 6)), scores.float(), rtol=1e-2, atol=1e-2)
        head.mlp[-1].bias.zero_()
        assert not head.half()(torch.zeros(2, 6, dtype=torch.float16)).any()


def test_no_images_give_no_scores():
    assert small()(torch.zeros(0, 6)).shape == (0, 10)


def test_its_sizes_are_the_authors():
    assert defaults(DINOHead) == {'out_channels': 65536, 'hid_channels': 2048, 'bottleneck_channels': 256,
                                  'num_layers': 3, 'train_norms': False}
