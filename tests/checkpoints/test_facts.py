import argparse
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mm_graft.checkpoints.containers import read_file
from mm_graft.checkpoints.facts import Facts, activation_of, heads_of, read_facts
from tests.tiny import VIT


@pytest.fixture
def facts(tmp_path):
    def facts(width=384, layout='mae', **beside):
        torch.save({'model': {'weight': torch.ones(1)}, **beside}, tmp_path / 'a.pth')
        return read_facts(read_file(tmp_path / 'a.pth'), layout, width)
    return facts


def cfg(**backbone):
    return {'meta': {'cfg': Config(dict(model=dict(backbone=backbone))).pretty_text}}


@pytest.mark.parametrize(('arch', 'layout', 'width', 'heads'), [
    ('vit_small', 'mocov3', 384, 12), ('vit_small', 'mae', 384, 6), ('vit_base', 'mocov3', 768, 12),
    ('vit_conv_small', 'mocov3', 384, 12), ('vit_large_patch16', 'timm', 1024, 16), ('vit_small', 'mocov3', 768, None),
    ('resnet50', 'mae', 384, None), (3, 'mae', 384, None)])
def test_the_name_of_an_architecture_says_its_heads(facts, arch, layout, width, heads):
    assert facts(width, layout, arch=arch).heads == heads


@pytest.mark.parametrize(('args', 'heads'), [
    (argparse.Namespace(model='mae_vit_small_patch16'), 6), ({'arch': 'deit_small'}, 6), ({'num_heads': 4}, 4),
    ({'model_name': 'vit_small_patch16_224'}, 6), ({'num_heads': True}, None), ({'lr': 1}, None), (None, None)])
@pytest.mark.parametrize('key', ['args', 'opt', 'hyper_parameters'])
def test_the_arguments_of_a_training_say_them(facts, args, heads, key):
    found = facts(**{key: args})
    assert found.heads == heads
    assert heads is None or found.source.startswith(key)


def test_the_config_of_a_run_says_heads_activation_and_grid(facts):
    assert facts(**cfg(type='VisionTransformer', arch='b', img_size=(288, 512), patch_size=16)) == Facts(
        12, 'gelu', (18, 32), 'its config', 1e-6)
    assert facts(**cfg(type='MAEViT', arch=dict(num_heads=3), layer_cfgs=dict(act_cfg=dict(type='ReLU')))) == Facts(
        3, 'relu', (14, 14), 'its config', 1e-6)


@pytest.mark.parametrize(('norm', 'eps'), [(dict(type='LN', eps=1e-3), 1e-3), (dict(type='LN'), 1e-5), (None, 1e-6)])
def test_the_eps_of_the_hosts_norms_is_the_configs_or_the_hosts(facts, norm, eps):
    """Of the layer norm that the host makes of it."""
    settings = dict(type='VisionTransformer', **VIT) | (dict(norm_cfg=norm) if norm else {})
    assert facts(**cfg(**settings)).eps == eps == MODELS.build(settings).ln1.eps


@pytest.mark.parametrize('backbone', [dict(type='VisionTransformer', **VIT), dict(
    type='mm_graft.TimmViT', model_name='vit_tiny_patch16_224', embed_dim=16, depth=1, num_heads=2, img_size=32)])
@pytest.mark.parametrize('inside', [True, False])
def test_the_config_of_a_run_says_how_images_are_normalized(facts, backbone, inside):
    """The preprocessor stands in the model or beside it; of any number of channels."""
    settings = dict(data_preprocessor=dict(mean=[51., 102., 0., 0., 25.5], std=[25.5] * 5))
    config = Config(dict(model=dict(backbone=backbone, **settings)) if inside else dict(
        model=dict(backbone=backbone), **settings))
    found = facts(meta={'cfg': config.pretty_text}).pixels
    assert found == ((0.2, 0.4, 0, 0, 0.1), (0.1, ) * 5)
    assert facts(provenance={'pixels': [[0.5, 0.1], [0.25, 1]]}).pixels == ((0.5, 0.1), (0.25, 1))
    for wrong in (5, [1], [[0.5], [0]], [[0.5], [0.1, 0.1]], [['x'], [1]]):
        assert facts(provenance={'pixels': wrong}).pixels is None


def test_a_config_of_a_vit_of_timm_says_what_timm_has(facts):
    small = dict(embed_dim=16, depth=1, img_size=(16, 32), patch_size=8)
    clip = dict(model_name='vit_base_patch16_clip_quickgelu_224', num_heads=4)
    found = facts(**cfg(type='mm_graft.TimmViT', **clip, **small))
    assert found[:5] == (4, 'quick_gelu', (2, 4), 'its config', 1e-5)
    found = facts(**cfg(type='mm_graft.TimmViT', model_name='vit_small_patch16_dinov3', **small, norm_eps=1e-3))
    assert (found.heads, found.eps, found.beside.vision['rope_theta']) == (6, 1e-3, 100)
    assert facts(**cfg(type='mm_graft.TimmViT', model_name='resnet18')) == Facts()
    assert facts(**cfg(type='mm_graft.TimmViT', model_name='no such')) == Facts()


def test_a_config_in_a_file_is_not_executed(facts, tmp_path):
    code = f'model = dict(backbone=dict(arch=dict(num_heads=__import__("os").mkdir({str(tmp_path / "ran")!r}))))'
    assert facts(meta={'cfg': code}).heads is None
    assert not (tmp_path / 'ran').exists()


def test_a_config_beside_the_file_says_them(facts, tmp_path):
    hugging_face = {'num_attention_heads': 6, 'hidden_act': 'gelu_pytorch_tanh', 'image_size': 224, 'patch_size': 14}
    for content, expected in ((hugging_face, (6, 'gelu_tanh', (16, 16))),
                              ({'vision_config': hugging_face}, (6, 'gelu_tanh', (16, 16))),
                              ({'backbone_config': hugging_face}, (6, 'gelu_tanh', (16, 16))),
                              ({'encoder': hugging_face | {'hidden_act': 'ReLU'}}, (6, 'relu', (16, 16))),
                              ({'architecture': 'vit_small_patch16_224'}, (6, 'gelu', (14, 14))),
                              ({'architecture': 'vit_small_patch16_224', 'model_args': {'num_heads': 4, 'depth': 1}},
                               (4, 'gelu', (14, 14))),
                              ({'architecture': 'no_vit'}, (None, None, None)), ([1], (None, None, None))):
        (tmp_path / 'config.json').write_text(json.dumps(content))
        found = facts()
        assert (found.heads, found.activation, found.grid) == expected
    (tmp_path / 'config.json').write_text('no json')
    assert facts() == Facts()


def test_a_model_of_timm_that_is_named_says_all_that_it_has_unless_it_is_another(facts, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({
        'architecture': 'vit_base_patch16_clip_quickgelu_224', 'model_args': {'depth': 1}}))
    assert facts(width=768)[:5] == (12, 'quick_gelu', (14, 14), str(tmp_path / 'config.json'), 1e-5)
    assert facts(width=384).activation is None


@pytest.mark.parametrize(('stated', 'name'), [
    ('relu', 'relu'), ('GELU', 'gelu'), ('gelu_fast', 'gelu_tanh'), ('Swish', 'silu'), ('mish', 'mish')])
def test_an_activation_that_is_stated_is_never_taken_for_unstated(facts, tmp_path, stated, name):
    (tmp_path / 'config.json').write_text(json.dumps({'hidden_act': stated}))
    assert facts().activation == name
    assert facts(provenance={'activation': stated}).activation == name


def test_mmsegs_backbones_say_their_sizes_beside_each_other(facts):
    found = facts(**cfg(type='BEiT', embed_dims=16, num_heads=2, img_size=(32, 64), patch_size=8,
                        act_cfg=dict(type='ReLU')))
    assert found == Facts(2, 'relu', (4, 8), 'its config', 1e-5)


def test_what_the_conversion_knew_comes_first(facts):
    record = {'heads': 8, 'activation': 'gelu', 'grid': [2, 3], 'grid_known': 'given'}
    assert facts(provenance=record, arch='vit_small') == Facts(8, 'gelu', (2, 3), 'its record')
    assert facts(provenance=record | {'grid_known': 'assumed'}).grid is None
    assert facts(provenance={'heads': 'many', 'grid': [1, 'x']}) == Facts()


def test_what_a_backbone_has():
    assert heads_of(MODELS.build(dict(type='VisionTransformer', **VIT))) == 2
    assert activation_of(MODELS.build(dict(type='VisionTransformer', **VIT))) == 'gelu'
    assert heads_of(nn.Linear(1, 1)) is activation_of(nn.Linear(1, 1)) is None
    assert activation_of(nn.GELU(approximate='tanh')) == 'gelu_tanh'
    assert [activation_of(kind()) for kind in (nn.ReLU, nn.SiLU, nn.GELU)] == ['relu', 'silu', 'gelu']
