import pytest
import timm
import torch

from mm_graft.checkpoints.conversion import (
    check_encoder,
    choose_branch,
    convert_backbone,
    convert_model,
    read_model,
    write_model,
)
from tests.tiny import vit_state


def encoder(prefix=''):
    return {prefix + name: tensor for name, tensor in vit_state(4, 3, mlp=8).items()}


def contrastive():
    return {**encoder(prefix='module.base_encoder.'), **encoder(prefix='module.momentum_encoder.'),
            'module.base_encoder.head.0.weight': torch.zeros(2), 'module.momentum_encoder.head.0.weight': torch.ones(2),
            'module.predictor.0.weight': torch.zeros(3)}


@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_the_branch_decides_which_encoder_is_the_encoder(branch):
    source = contrastive()
    theirs = 'base' if branch == 'base' else 'momentum'
    result = convert_model(source, None, 'timm', branch)
    assert result.backbone['cls_token'] is source[f'module.{theirs}_encoder.cls_token']
    whole = convert_model(source, 'mocov3', 'mmpretrain', branch)
    assert whole.backbone['neck.fc0.weight'] is source[f'module.{theirs}_encoder.head.0.weight']
    assert ('momentum_encoder.module.0.cls_token' in whole.backbone) == (branch == 'base')


@pytest.mark.parametrize('average', ['momentum_encoder.module.', 'teacher.module.', 'a.tutor.module.0.'])
def test_an_average_has_any_name_and_may_be_of_the_encoder_alone(average):
    own = {f'backbone.{name}': tensor for name, tensor in convert_backbone(encoder()).backbone.items()}
    slow = {name.replace('backbone.', average): tensor + 1 for name, tensor in own.items()}
    beside = {'neck.fc0.weight': torch.zeros(2)}
    if average.endswith('0.'):
        beside[f'{average[:-2]}1.fc0.weight'] = torch.ones(2)
    model = {**own, **slow, **beside}
    found = convert_backbone(model, branch='momentum')
    assert all(tensor is slow[average + name] for name, tensor in found.backbone.items())
    assert len(found.backbone) == len(own)
    assert found.dropped['backbone.cls_token'] == 'the other encoder'
    assert len(found.backbone) + len(found.dropped) == len(model)
    assert convert_model(model, None, 'mmpretrain').backbone == model
    if average.endswith('0.'):
        neck = choose_branch(read_model(model), 'momentum').backbone['neck.fc0.weight']
        assert neck is model['a.tutor.module.1.fc0.weight']


def test_of_several_averages_the_one_with_the_hosts_name_is_meant():
    own = {f'backbone.{name}': tensor for name, tensor in convert_backbone(encoder()).backbone.items()}
    model = dict(own)
    for average in ('early.module.', 'late.module.'):
        model |= {name.replace('backbone.', average): tensor for name, tensor in own.items()}
    with pytest.raises(ValueError, match=r"several averages.*early\.module.*late\.module"):
        convert_backbone(model, branch='momentum')
    named = {name.replace('late.', 'momentum_encoder.'): tensor for name, tensor in model.items()}
    converted = convert_backbone(named, branch='momentum')
    assert converted.backbone['cls_token'] is named['momentum_encoder.module.cls_token']


def test_everything_left_out_has_the_name_of_the_source_and_a_reason():
    converted = convert_backbone(contrastive(), branch='momentum')
    assert converted.dropped['module.predictor.0.weight'] == 'predictor'
    assert converted.dropped['module.momentum_encoder.head.0.weight'] == 'projector'
    assert converted.dropped['module.base_encoder.cls_token'] == 'the other encoder'
    assert len(converted.backbone) + len(converted.dropped) == len(contrastive())


def test_an_encoder_alone_has_no_second_branch():
    with pytest.raises(ValueError, match='no momentum encoder'):
        choose_branch(read_model(encoder()), 'momentum')
    with pytest.raises(ValueError, match="unknown branch 'teacher'"):
        choose_branch(read_model(encoder()), 'teacher')


def test_a_wrong_layout_is_refused():
    with pytest.raises(ValueError, match='are no model of mmpretrain'):
        read_model({name: tensor for name, tensor in encoder().items() if name.startswith('blocks')}, 'mmpretrain')
    with pytest.raises(ValueError, match='are not those of ConMIM'):
        read_model(encoder(), 'conmim')
    with pytest.raises(ValueError, match='unknown layout'):
        read_model(encoder(), 'dino')
    with pytest.raises(ValueError, match='unknown layout'):
        convert_model(encoder(), None, 'dino')
    with pytest.raises(ValueError, match='are not those of MoCo v3'):
        read_model({'predictor.0.weight': torch.zeros(1)}, 'mocov3')


def test_an_encoder_must_be_whole_and_of_one_width():
    def backbone(**tensors):
        return {**convert_backbone(encoder()).backbone, **tensors}

    check_encoder(backbone())
    gap = backbone()
    gap = {name: tensor for name, tensor in gap.items() if not name.startswith('layers.1.')}
    with pytest.raises(ValueError, match='block 1 of the encoder is missing'):
        check_encoder(gap)
    half = backbone()
    del half['layers.2.attn.qkv.weight']
    with pytest.raises(ValueError, match=r'layers\.2\.attn\.qkv\.weight has shape None'):
        check_encoder(half)
    with pytest.raises(ValueError, match='cls_token has width 6'):
        check_encoder(backbone(cls_token=torch.zeros(1, 1, 6)))
    for missing in ('ln1.weight', 'patch_embed.projection.weight'):
        with pytest.raises(ValueError, match=f'lacks {missing}'):
            check_encoder({name: tensor for name, tensor in backbone().items() if name != missing})
    with pytest.raises(ValueError, match=r"belong to no known ViT or Swin, first \['layers.0.ada"):
        check_encoder(backbone(**{'layers.0.adapter': torch.zeros(1)}))


def test_the_final_norm_of_a_plain_vit_is_that_of_the_last_tap():
    source = {name: tensor for name, tensor in encoder().items() if not name.startswith('norm.')}
    source |= {'norm.0.weight': torch.zeros(4), 'norm.1.weight': torch.ones(4)}
    result = convert_model(source, None, 'mae')
    assert result.backbone['norm.weight'].equal(torch.ones(4))
    assert result.dropped == {'norm.0.weight': 'norm of a lower tap'}


OTHERS = ['convnext_atto', 'resnet18', 'swin_tiny_patch4_window7_224', 'eva02_tiny_patch14_224']


@pytest.mark.parametrize('name', OTHERS)
@pytest.mark.parametrize('layout', [None, 'mmpretrain'])
def test_other_architectures_are_not_converted_whatever_their_names_begin_with(name, layout):
    state = timm.create_model(name, num_classes=0).state_dict()
    with pytest.raises(ValueError, match='known'):
        convert_model(state, layout, 'mmpretrain')
    with pytest.raises(ValueError, match='known'):
        convert_model({f'backbone.{key}': tensor for key, tensor in state.items()}, layout, 'mmpretrain')


def test_a_model_can_be_read_once_and_written_twice():
    model = read_model(contrastive())
    for layout in ('mmpretrain', 'mocov3', 'timm'):
        at_once = convert_model(contrastive(), None, layout)
        assert write_model(model, layout).backbone.keys() == at_once.backbone.keys()
