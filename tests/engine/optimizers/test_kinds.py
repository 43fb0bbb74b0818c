import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mm_graft.engine.optimizers.kinds import KINDS, kinds_of
from tests.engine.optimizers.test_graft_constructor import build, table
from tests.tiny import classifier, grafted_mocov3

SMALL = dict(depth=4, embed_dim=16, num_heads=2, img_size=32, patch_size=8)
BLOCK = {
    'layers.1.ln1.weight': {'norm'}, 'layers.1.ln2.bias': {'norm', 'bias'}, 'layers.1.attn.qkv.weight': {'attention'},
    'layers.1.attn.qkv.bias': {'attention', 'bias'}, 'layers.1.attn.proj.bias': {'attention', 'bias'},
    'layers.1.attn.q_bias': {'attention', 'bias'}, 'blocks.1.attn.q_norm.weight': {'norm'},
    'layers.1.ffn.layers.0.0.weight': {'mlp'}, 'blocks.1.mlp.fc2.bias': {'mlp', 'bias'}, 'blocks.1.gamma_2': {'scale'},
    'layers.1.attn.gamma1.weight': {'scale'}, 'blocks.1.ls2.gamma': {'scale'}, 'cls_token': {'stem'},
    'reg_token': {'stem'}, 'pos_embed': {'stem'}, 'patch_embed.projection.weight': {'stem'},
    'patch_embed.proj.bias': {'stem', 'bias'}, 'ln1.weight': {'norm'}, 'norm_pre.bias': {'norm', 'bias'},
    'attn_pool.kv.weight': {'attention'}, 'blocks.0.attn.relative_position_bias_table': {'attention'},
    'stages.0.blocks.0.attn.w_msa.qkv.weight': {'attention'}, 'stages.0.downsample.reduction.weight': {'stem'}}


@pytest.mark.parametrize('name', BLOCK)
def test_the_kinds_of_a_parameter_follow_from_its_name(name):
    assert kinds_of(name, nn.Linear(1, 1)) == BLOCK[name]


def test_a_module_that_normalizes_is_a_norm_whatever_it_is_called():
    assert kinds_of('layers.0.attn.inner.weight', nn.LayerNorm(2)) == {'norm'}
    assert kinds_of('layers.0.attn.inner.weight', nn.Linear(2, 2)) == {'attention'}


@pytest.mark.parametrize('name', ['vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3', 'eva02_tiny_patch14_224',
                                  'vit_base_patch16_siglip_224', 'beitv2_base_patch16_224'])
def test_every_parameter_of_a_vit_of_timm_is_of_a_kind(name):
    model = MODELS.build(dict(type='mm_graft.TimmViT', model_name=name, **SMALL)).timm_model
    for module_name, module in model.named_modules():
        for own, _ in module.named_parameters(recurse=False):
            assert kinds_of(f'{module_name}.{own}'.lstrip('.'), module) <= set(KINDS)
            assert kinds_of(f'{module_name}.{own}'.lstrip('.'), module)


@pytest.mark.parametrize('chosen', [['attention'], ['norm'], ['bias'], ['mlp', 'stem']])
def test_only_the_chosen_kinds_of_the_encoder_train_and_everything_beside_it(chosen):
    rows = table(dict(train_only=chosen))
    every = table({})
    encoder = {name for name in every if name.startswith('backbone.')}
    wanted = {name for name in encoder if not BLOCKS[name].isdisjoint(chosen)}
    assert set(rows) == (set(every) - encoder) | wanted
    assert 0 < len(wanted) < len(encoder)


MODEL = MODELS.build(grafted_mocov3())
BLOCKS = {name: kinds_of(name.removeprefix('backbone.'), MODEL.get_submodule(name.rpartition('.')[0]))
          for name, _ in MODEL.named_parameters()}


def test_what_does_not_train_leaves_autograd_and_keeps_its_values():
    model, optimizer = build(dict(train_only=['bias']), MODELS.build(classifier()))
    before = {name: parameter.detach().clone() for name, parameter in model.backbone.named_parameters()}
    model.backbone(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
    optimizer.step()
    for name, parameter in model.backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == name.endswith('bias')
        assert torch.equal(parameter, before[name]) != name.endswith('bias')


def test_kinds_compose_with_stages_decay_and_multipliers():
    rows = table(dict(train_only=['attention'], stage_lr_mult=[0, 0.5], bias_lr_mult=3.))
    assert 'backbone.layers.1.attn.qkv.weight' not in rows
    assert rows['backbone.layers.2.attn.qkv.weight'][0] == pytest.approx(1.0)
    assert rows['backbone.layers.2.attn.qkv.bias'][0] == pytest.approx(3.0)
    rows = table(dict(train_only=['attention'], layer_decay_rate=0.5))
    assert rows['backbone.layers.3.attn.qkv.weight'][0] == pytest.approx(1.0)
    assert rows['backbone.layers.2.attn.qkv.weight'][0] == pytest.approx(0.5)
    assert 'backbone.layers.3.ln1.weight' not in rows


@pytest.mark.parametrize(('chosen', 'message'), [
    ('attention', 'must be a list of kinds'), ([], 'must be a list of kinds'),
    (['attn'], r"unknown kinds \['attn'\]; known are .*"), (['scale'], r"no parameters of the kinds \['scale'\]")])
def test_what_is_no_choice_is_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        build(dict(train_only=chosen))


def test_a_stage_in_which_no_chosen_kind_is_left_is_refused():
    model = MODELS.build(grafted_mocov3())
    model.backbone.layers[:2].requires_grad_(False)
    model.backbone.cls_token.requires_grad_(False)
    model.backbone.patch_embed.requires_grad_(False)
    with pytest.raises(ValueError, match=r'nothing in stages \[1\] trains'):
        build(dict(train_only=['attention'], stage_lr_mult=[0.1, 1.0]), model)
