import pytest
import timm
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints.detection import LAYOUT_NAMES, detect_layout, lacking, locate
from tests.tiny import ARCH, VIT, grafted_mocov3, mae, vit_state


def under(prefix, state=None):
    return {prefix + name: tensor for name, tensor in (state or vit_state()).items()}


def beit():
    model = timm.models.beit.Beit(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, init_values=0.1,
                                  use_shared_rel_pos_bias=True, num_classes=0)
    return model.state_dict()


def taps():
    state = {name: tensor for name, tensor in vit_state().items() if not name.startswith('norm.')}
    return state | {f'norm.{k}.{part}': torch.ones(16) for k in range(2) for part in ('weight', 'bias')}


EXAMPLES = {
    'mae': lambda: vit_state() | {'decoder_norm.weight': torch.ones(8), 'mask_token': torch.ones(1, 1, 8)},
    'timm': lambda: vit_state() | {'head.weight': torch.ones(3, 16), 'head.bias': torch.ones(3)},
    'mocov3': lambda: under('module.base_encoder.') | under('module.momentum_encoder.'),
    'conmim': beit,
    'localmim': taps,
    'mmpretrain': lambda: MODELS.build(grafted_mocov3()).state_dict(),
}


@pytest.mark.parametrize('layout', EXAMPLES)
def test_a_layout_is_known_by_its_names(layout):
    assert layout in LAYOUT_NAMES
    assert detect_layout(EXAMPLES[layout]()) == layout


def test_an_encoder_of_mae_and_one_of_timm_have_the_same_names():
    assert detect_layout(vit_state()) == 'mae'


@pytest.mark.parametrize('model', [
    dict(type='VisionTransformer', **VIT), dict(type='MAEViT', **VIT), dict(type='mm_graft.ConMIMViT', **VIT),
    dict(type='mm_graft.VisiblePatchViT', taps=(2, 4), **VIT), dict(type='BEiTViT', **VIT),
    dict(type='VisionTransformer', layer_cfgs=dict(layer_scale_init_value=1., ffn_type='swiglu_fused'), **VIT),
    dict(type='DistilledVisionTransformer', **VIT), dict(type='SwinTransformer', arch='tiny', img_size=64),
    dict(type='mm_graft.PostNormViT', **VIT), mae(), grafted_mocov3()])
def test_models_and_backbones_of_the_host_are_known_whole_and_bare(model):
    state = MODELS.build(model).state_dict()
    assert locate(state) == ('mmpretrain', '')
    assert locate(under('module.', state)) == ('mmpretrain', 'module.')


@pytest.mark.parametrize('prefix', [
    'module.', '_orig_mod.', 'module._orig_mod.', 'model.', 'encoder.', 'vit.', 'student.', 'teacher.', 'visual.trunk.',
    'teacher.backbone.', 'anything.else.'])
def test_what_stands_before_all_names_is_found(prefix):
    beside = {'text.weight': torch.ones(2, 2), 'logit_scale': torch.ones(())}
    for branch in ('base', 'momentum'):
        assert locate(under(prefix) | beside, branch) == ('mae', prefix)


@pytest.mark.parametrize(('base', 'average'), [
    ('student.', 'teacher.'), ('encoder.', 'target_encoder.'), ('model.', 'model_ema.'), ('q.', 'momentum_q.'),
    ('module.online.', 'module.ema.')])
def test_of_two_encoders_the_branch_decides(base, average):
    state = under(base) | under(average)
    assert locate(state).root == base
    assert locate(state, 'momentum').root == average


def test_of_two_equal_ones_the_prefix_must_be_given():
    state = under('left.') | under('right.')
    with pytest.raises(ValueError, match=r"several encoders, below \['left\.', 'right\.'\]; name one by prefix"):
        locate(state)
    assert locate(state, prefix='right.') == ('mae', 'right.')
    with pytest.raises(ValueError, match="no name begins with the prefix 'up'"):
        locate(state, prefix='up')


def test_a_counter_at_the_top_does_not_matter():
    assert detect_layout(vit_state() | {'step': torch.tensor(7), 'n_averaged': torch.tensor([7])}) == 'mae'
    with pytest.raises(ValueError, match='no place for scale'):
        detect_layout(vit_state() | {'scale': torch.ones(16)})


@pytest.mark.parametrize(('name', 'reason'), [
    ('blocks.1.attn.qkv.weight', r'lacks layers\.1\.attn\.qkv\.weight'), ('norm.weight', r'lacks ln1\.weight'),
    ('blocks.0.mlp.fc2.weight', r'lacks layers\.0\.ffn\.layers\.1\.weight')])
def test_a_layout_must_have_all_of_an_encoder(name, reason):
    state = vit_state()
    del state[name]
    with pytest.raises(ValueError, match=f"no known layout; nearest is 'mae', where 1 do not fit .{reason}"):
        detect_layout(state)


def test_a_whole_block_that_is_missing_is_named():
    assert lacking(f'layers.{i}.{part}' for i in (0, 2) for part in (
        'ln1.weight', 'ln2.weight', 'attn.qkv.weight', 'attn.proj.weight', 'ffn.layers.1.weight')) == [
            'patch_embed.projection.weight', 'layers.1.ln1.weight', 'layers.1.ln2.weight', 'layers.1.attn.qkv.weight',
            'layers.1.attn.proj.weight', 'layers.1.ffn.layers.1.weight', 'ln1.weight']


@pytest.mark.parametrize('extra', ['blocks.0.attn.gate.weight', 'blocks.0.ls3.gamma', 'reg_tokens', 'norm_mid.weight'])
def test_a_tensor_that_changes_the_function_is_no_detail(extra):
    with pytest.raises(ValueError, match=f'no place for {extra}'):
        detect_layout(vit_state() | {extra: torch.ones(16)})


OTHERS = ['convnext_atto', 'resnet18', 'eva02_tiny_patch14_224', 'hiera_tiny_224', 'mixer_s32_224']


@pytest.mark.parametrize('name', OTHERS)
def test_other_architectures_are_of_no_layout_and_their_first_names_are_shown(name):
    state = timm.create_model(name, num_classes=0).state_dict()
    with pytest.raises(ValueError, match='no known layout') as error:
        detect_layout(state)
    assert str(list(state)[:3]) in str(error.value)


def test_a_named_layout_is_looked_for_below_its_prefix():
    state = under('module.model.')
    assert locate(state, layout='timm') == ('timm', 'module.model.')
    with pytest.raises(ValueError, match='are not those of LocalMIM'):
        locate(state, layout='localmim')
    with pytest.raises(ValueError, match=r"unknown layout 'dino'; choose one of .*mae"):
        locate(state, layout='dino')


def test_the_arch_of_these_tests_is_that_of_the_files():
    assert (ARCH['embed_dims'], ARCH['num_layers'], ARCH['feedforward_channels']) == (16, 4, 32)
