import pytest
import timm
import torch
from mmengine.registry import MODELS
from torch import nn

from mm_graft.evaluation.features import encode
from mm_graft.evaluation.layer_features import (
    drop_final_norm,
    encode_all_blocks,
    encode_last_blocks,
    encode_layers,
    final_norm,
)
from tests.tiny import VIT

IMAGES = torch.randn(3, 3, 32, 32)


def build(type_='VisionTransformer', **kwargs):
    backbone = MODELS.build(dict(type=type_, **{**VIT, **kwargs}))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    backbone.eval()
    return backbone


@torch.no_grad()
def test_every_block_gives_its_class_token_and_the_mean_of_its_patches_as_they_leave_it():
    backbone = build(out_indices=[0, 1, 2, 3], out_type='raw', final_norm=False)
    layers, outputs = encode_layers(backbone, IMAGES), backbone(IMAGES)
    assert layers.shape == (3, 4, 2, 16)
    for index, tokens in enumerate(outputs):
        torch.testing.assert_close(layers[:, index, 0], tokens[:, 0])
        torch.testing.assert_close(layers[:, index, 1], tokens[:, 1:].mean(1))
    torch.testing.assert_close(encode_all_blocks(backbone, IMAGES), layers.flatten(1))
    torch.testing.assert_close(encode(backbone, IMAGES, 'all-blocks'), layers.flatten(1))


@torch.no_grad()
def test_registers_of_timm_are_no_patches_and_bare_models_are_read_too():
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2,
                            num_classes=0, reg_tokens=3).eval()
    tokens = vit.forward_intermediates(IMAGES, indices=[2], return_prefix_tokens=True, output_fmt='NLC',
                                       intermediates_only=True)[0]
    layers = encode_layers(vit, IMAGES)
    torch.testing.assert_close(layers[:, 2, 0], tokens[1][:, 0])
    torch.testing.assert_close(layers[:, 2, 1], tokens[0].mean(1))


@torch.no_grad()
def test_an_encoder_without_a_class_token_gives_the_means_alone():
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2,
                            num_classes=0, class_token=False, global_pool='avg').eval()
    assert encode_layers(vit, IMAGES).shape == (3, 4, 1, 16)
    with pytest.raises(ValueError, match='has no class token'):
        encode_last_blocks(vit, IMAGES)


@torch.no_grad()
def test_the_last_blocks_are_read_after_the_final_norm():
    backbone = build()
    layers, last = encode_layers(backbone, IMAGES), encode_last_blocks(backbone, IMAGES)
    assert last.shape == (3, 5 * 16)
    torch.testing.assert_close(last[:, :16], backbone.ln1(layers[:, 0, 0]))
    torch.testing.assert_close(last[:, 48:64], encode(backbone, IMAGES, 'cls'))
    torch.testing.assert_close(last[:, 64:], backbone.ln1(layers[:, 3, 1]))
    assert final_norm(backbone) is backbone.ln1


@torch.no_grad()
@pytest.mark.parametrize('pool', ['cls', 'avg'])
def test_features_before_the_final_norm_are_those_of_the_last_block(pool):
    backbone = build()
    layers, normed = encode_layers(backbone, IMAGES), encode(backbone, IMAGES, pool)
    drop_final_norm(backbone)
    torch.testing.assert_close(encode(backbone, IMAGES, pool), layers[:, 3, ['cls', 'avg'].index(pool)])
    assert not torch.allclose(encode(backbone, IMAGES, pool), normed)
    with pytest.raises(ValueError, match='has no final norm'):
        drop_final_norm(backbone)


def test_of_two_norms_the_one_that_all_tokens_pass_is_the_final_one():
    backbone = build(out_type='avg_featmap')
    assert isinstance(backbone.ln2, nn.LayerNorm)
    assert final_norm(backbone) is backbone.ln1


def test_the_final_norm_of_timm_is_dropped_too():
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2,
                            num_classes=0).eval()
    nn.init.normal_(vit.norm.weight)
    drop_final_norm(vit)
    with torch.no_grad():
        torch.testing.assert_close(vit.forward_features(IMAGES)[:, 0], encode_layers(vit, IMAGES)[:, 1, 0])


def test_an_encoder_whose_blocks_change_width_is_refused():
    swin = MODELS.build(dict(type='SwinTransformer', img_size=64, arch=dict(
        embed_dims=12, depths=[1, 1], num_heads=[2, 2]), out_indices=(1, ), stage_cfgs={}))
    swin.eval()
    with pytest.raises(ValueError, match='plain ViTs'):
        encode_layers(swin, torch.randn(1, 3, 64, 64))


def test_blocks_that_give_fewer_tokens_are_refused():
    backbone = build()
    backbone.layers[3].register_forward_hook(lambda block, args, tokens: tokens[:, :1])
    with pytest.raises(ValueError, match=r'the blocks of VisionTransformer give .* all give tokens of one width'):
        encode_layers(backbone, IMAGES)


@torch.no_grad()
def test_of_more_than_four_blocks_the_last_four_are_read():
    backbone = build(arch={**VIT['arch'], 'num_layers': 6})
    last = encode_last_blocks(backbone, IMAGES)
    assert last.shape == (3, 5 * 16)
    torch.testing.assert_close(last[:, :16], backbone.ln1(encode_layers(backbone, IMAGES)[:, 2, 0]))
