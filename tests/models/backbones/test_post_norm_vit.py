import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from mm_graft.depth import depth_map
from tests.tiny import VIT


def build(**kwargs):
    backbone = MODELS.build(dict(type='mm_graft.PostNormViT', **VIT, **kwargs))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    backbone.eval()
    return backbone.double()


def by_hand(backbone, images):
    """What data2vec 2.0 computes, from its text: norm, then x ← norm(x + f(x)) twice a block."""
    tokens = backbone.patch_embed(images)[0]
    tokens = torch.cat([backbone.cls_token.expand(len(images), -1, -1), tokens], 1) + backbone.pos_embed
    tokens = F.layer_norm(tokens, (16, ), backbone.pre_norm.weight, backbone.pre_norm.bias, 1e-6)
    for block in backbone.layers:
        tokens = tokens + block.attn(tokens)
        tokens = F.layer_norm(tokens, (16, ), block.ln1.weight, block.ln1.bias, 1e-6)
        up, down = block.ffn.layers[0][0], block.ffn.layers[1]
        tokens = tokens + down(F.gelu(up(tokens)))
        tokens = F.layer_norm(tokens, (16, ), block.ln2.weight, block.ln2.bias, 1e-6)
    return tokens[:, 0]


def test_it_computes_blocks_with_their_norms_behind_and_no_final_norm():
    backbone, images = build(), torch.randn(2, 3, 32, 32).double()
    torch.testing.assert_close(backbone(images)[-1], by_hand(backbone, images))
    assert backbone.patch_embed.projection.bias is not None
    assert not hasattr(backbone, 'ln1')
    assert backbone.output_norm is backbone.layers[3].ln2


def test_every_parameter_has_a_depth_and_matters():
    backbone, images = build(), torch.randn(2, 3, 32, 32).double()
    depths = depth_map(backbone)
    assert depths.depths['pre_norm.weight'] == 0
    assert depths.depths['layers.3.ln2.bias'] == 4
    assert max(depths.depths.values()) == 4
    backbone(images)[-1].square().sum().backward()
    without = {name for name, parameter in backbone.named_parameters() if parameter.grad is None}
    assert without == {'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}


def test_a_frozen_prefix_and_recomputed_blocks_give_the_same_gradients():
    images = torch.randn(2, 3, 32, 32).double()
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = build(with_cp=with_cp, frozen_stages=2).train()
        backbone(images)[-1].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in backbone.named_parameters()
                          if parameter.grad is not None})
    assert {name.split('.')[1] for name in gradients[0]} == {'2', '3'}
    assert all(torch.equal(gradients[1][name], value) for name, value in gradients[0].items())


def test_the_short_last_block_is_refused():
    with pytest.raises(ValueError, match='class_token_only=True'):
        build(class_token_only=True)
