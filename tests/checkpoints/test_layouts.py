import pytest
import timm
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints import convert_backbone
from mm_graft.checkpoints.layouts import Converted, mmpretrain_to_timm
from mm_graft.checkpoints.names import VIT as VIT_NAMES
from mm_graft.checkpoints.names import NameMap
from tests.tiny import VIT, grafted_mocov3, mae, mae_file, vit_state

NAMES = {
    'cls_token': 'cls_token', 'pos_embed': 'pos_embed', 'patch_embed.proj.bias': 'patch_embed.projection.bias',
    'blocks.10.norm1.weight': 'layers.10.ln1.weight', 'blocks.1.norm2.bias': 'layers.1.ln2.bias',
    'blocks.0.attn.qkv.weight': 'layers.0.attn.qkv.weight', 'blocks.0.attn.proj.bias': 'layers.0.attn.proj.bias',
    'blocks.0.mlp.fc1.weight': 'layers.0.ffn.layers.0.0.weight', 'blocks.0.mlp.fc2.bias': 'layers.0.ffn.layers.1.bias',
    'norm.weight': 'ln1.weight',
}


def tensors(names):
    return {name: torch.tensor(float(index)) for index, name in enumerate(names)}


@pytest.mark.parametrize(('theirs', 'ours'), NAMES.items())
def test_names_translate_forth_and_back(theirs, ours):
    assert NameMap(VIT_NAMES).to_host(theirs) == ours
    assert NameMap(VIT_NAMES).to_foreign(ours) == theirs


@pytest.mark.parametrize('name', ['blocks.0.attn.gamma', 'xnorm.weight', 'norms.weight', 'patch_embed.norm.weight'])
def test_a_name_without_a_rule_has_no_translation(name):
    assert NameMap(VIT_NAMES).to_host(name) is None


def test_timms_own_model_becomes_exactly_the_hosts_and_back():
    vit = timm.create_model('vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2,
                            num_classes=3)
    converted = convert_backbone(vit.state_dict(), 'timm')
    host = MODELS.build(dict(type='VisionTransformer', **VIT))
    assert set(converted.backbone) == set(host.state_dict())
    assert set(converted.dropped) == {'head.weight', 'head.bias'}
    back = mmpretrain_to_timm(converted.backbone)
    assert all(back[name] is converted.backbone[NameMap(VIT_NAMES).to_host(name)] for name in back)


def test_what_timm_cannot_hold_is_named():
    with pytest.raises(ValueError, match=r'layers\.0\.adapter'):
        mmpretrain_to_timm({'layers.0.adapter': torch.zeros(1)})


def test_mae_drops_its_decoder_and_nothing_else(tmp_path):
    state = torch.load(mae_file(tmp_path / 'mae.pth'), weights_only=True)['model']
    converted = convert_backbone(state, 'mae')
    assert set(converted.dropped) == {'mask_token', 'decoder_norm.weight'}
    assert set(converted.dropped.values()) == {'MAE decoder'}
    assert len(converted.backbone) + len(converted.dropped) == len(state)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize(('branch', 'value'), [('base', 0.), ('momentum', 1.)])
def test_mocov3_gives_the_encoder_that_was_asked_for(prefix, branch, value):
    state = {f'{prefix}base_encoder.cls_token': torch.tensor(0.),
             f'{prefix}momentum_encoder.cls_token': torch.tensor(1.),
             f'{prefix}base_encoder.head.0.weight': torch.tensor(2.),
             f'{prefix}momentum_encoder.head.0.weight': torch.tensor(3.),
             f'{prefix}predictor.0.weight': torch.tensor(4.)}
    converted = convert_backbone(state, 'mocov3', branch)
    assert converted.backbone == {'cls_token': torch.tensor(value)}
    assert sorted(converted.dropped.values()) == ['predictor', 'projector', 'the other encoder', 'the other encoder']


@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_a_model_of_ours_gives_the_encoder_that_was_asked_for(branch):
    model = MODELS.build(grafted_mocov3())
    with torch.no_grad():
        model.momentum_encoder.module[0].cls_token.fill_(7)
    converted = convert_backbone(model.state_dict(), 'mmpretrain', branch)
    assert set(converted.backbone) == set(model.backbone.state_dict())
    assert bool((converted.backbone['cls_token'] == 7).all()) == (branch == 'momentum')
    assert len(converted.backbone) + len(converted.dropped) == len(model.state_dict())


def test_a_model_without_momentum_encoder_has_no_momentum_branch():
    with pytest.raises(ValueError, match=r'no momentum encoder.*branch=base'):
        convert_backbone(MODELS.build(mae()).state_dict(), 'mmpretrain', 'momentum')


def test_a_bare_backbone_is_taken_whole():
    state = MODELS.build(dict(type='VisionTransformer', **VIT)).state_dict()
    converted = convert_backbone(state, 'mmpretrain')
    assert (set(converted.backbone), converted.dropped) == (set(state), {})


@pytest.mark.parametrize('layout', ['mae', 'timm', 'mmpretrain'])
def test_layouts_with_one_encoder_have_no_momentum_branch(layout):
    state = vit_state()
    state = convert_backbone(state).backbone if layout == 'mmpretrain' else state
    with pytest.raises(ValueError, match='branch=base'):
        convert_backbone(state, layout, 'momentum')


def test_a_tensor_without_a_rule_is_an_error_not_an_oversight():
    with pytest.raises(ValueError, match=r'1 tensors fit no rule.*blocks\.0\.adapter'):
        convert_backbone(tensors([*NAMES, 'blocks.0.adapter']), 'mae')


def test_unknown_kinds_and_branches_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown layout 'dino'.*mae"):
        convert_backbone(tensors(NAMES), 'dino')
    with pytest.raises(ValueError, match=r"unknown branch 'teacher'.*momentum"):
        convert_backbone(tensors(NAMES), 'mae', 'teacher')


def test_the_layout_decides_how_names_are_read():
    names = ['backbone.cls_token', 'head.weight']
    assert convert_backbone(tensors(names), 'mmpretrain').dropped == {'head.weight': 'not part of this backbone'}
    with pytest.raises(ValueError, match=r'backbone\.cls_token'):
        convert_backbone(tensors(names), 'timm')


def test_two_results_share_nothing():
    first = Converted()
    first.backbone['cls_token'] = torch.zeros(1)
    assert Converted().backbone == {}
