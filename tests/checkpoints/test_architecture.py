import shutil

import pytest
import timm
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints.architecture import architecture_of, ratio_of, usual_heads
from mm_graft.checkpoints.containers import read_file
from mm_graft.checkpoints.settings import HALF, IMAGENET, OPENAI
from tests.checkpoints.hub import HUB, images, loaded, outputs
from tests.checkpoints.test_authors import SMALL, randomized
from tests.tiny import vit_state

NAMED = {
    'vit_tiny_patch16_224': {}, 'vit_small_patch14_reg4_dinov2': dict(reg_tokens=2), 'vit_base_patch16_siglip_224': {},
    'vit_huge_patch14_gap_224': {}, 'deit_tiny_distilled_patch16_224': {}, 'beitv2_base_patch16_224': {},
    'vit_small_patch16_dinov3': {}, 'vit_giant_patch14_dinov2': {}, 'deit3_small_patch16_224': {}}


def found(path):
    return architecture_of(read_file(path))


@pytest.mark.parametrize('name', NAMED)
def test_a_bare_file_of_timm_says_by_its_tensors_what_it_is(tmp_path, name):
    """All but heads (64 wide) and activation, which it cannot say and which are assumed aloud."""
    settings = SMALL | NAMED[name] | dict(embed_dim=64, num_heads=1)
    model = randomized(timm.create_model(name, num_classes=0, **settings))
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    assert 'heads 1' in found(tmp_path / 'a.pth').assumed if 'dinov3' not in name else True
    if 'dinov3' in name:
        with pytest.raises(ValueError, match='does not state its image size'):
            found(tmp_path / 'a.pth')
        return
    eps = {module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)}
    assert found(tmp_path / 'a.pth').backbone['norm_eps'] == eps.pop() == 1e-6
    with torch.no_grad():
        torch.testing.assert_close(outputs(loaded(tmp_path / 'a.pth'))['tokens'], model.forward_features(images()))


@pytest.mark.parametrize('name', [
    'vit_tiny_patch16_224', 'vit_base_patch16_224', 'vit_so400m_patch14_siglip_224', 'vit_huge_patch14_224',
    'vit_giant_patch14_224', 'vit_gigantic_patch14_224', 'vit_giant_patch14_dinov2', 'vit_huge_plus_patch16_dinov3',
    'vit_7b_patch16_dinov3'])
def test_a_file_that_does_not_say_its_heads_is_taken_to_have_those_of_the_public_vit_of_its_width(name):
    with torch.device('meta'):
        vit = timm.create_model(name, depth=1)
    layout = 'timm-dinov3' if 'dinov3' in name else 'timm'
    assert usual_heads(vit.embed_dim, layout) == vit.blocks[0].attn.num_heads


@pytest.mark.parametrize(('width', 'layout', 'heads'), [
    (384, 'mocov3', 12), (384, 'graft', 12), (384, 'mae', 6), (1280, 'hf-dinov3', 20), (1280, 'mae', 16),
    (16, 'mae', 1)])
def test_where_layouts_differ_in_heads_the_layout_decides(width, layout, heads):
    assert usual_heads(width, layout) == heads


def test_the_heads_of_a_huge_mae_are_not_64_wide(tmp_path):
    torch.save({'model': vit_state(width=1280, depth=1, mlp=8)}, tmp_path / 'mae_pretrain_vit_huge.pth')
    architecture = found(tmp_path / 'mae_pretrain_vit_huge.pth')
    assert architecture.backbone['num_heads'] == 16
    assert 'heads 16' in architecture.assumed


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'eva02_tiny_patch14_224', 'vit_small_patch16_dinov3'])
def test_a_folder_of_timm_says_it_by_name(tmp_path, name):
    model = randomized(timm.create_model(name, num_classes=0, **SMALL))
    model.pretrained_cfg |= {'input_size': (3, 32, 32)}
    timm.models.save_for_hf(model, tmp_path, model_args={key: SMALL[key] for key in SMALL if key != 'img_size'},
                            safe_serialization=True)
    architecture = found(tmp_path)
    assert (architecture.backbone['model_name'], architecture.assumed) == (name, ())
    assert architecture.pixels == {'vit_t': HALF, 'eva02': OPENAI}.get(name[:5], IMAGENET)
    with torch.no_grad():
        torch.testing.assert_close(outputs(loaded(tmp_path))['tokens'], model.forward_features(images()))


def test_files_of_clip_that_do_not_say_their_activation_are_refused(tmp_path):
    for name, file in (('clip', 'model.safetensors'), ('open-clip', 'open_clip_model.safetensors')):
        shutil.copy(HUB / name / file, tmp_path / f'{name}.safetensors')
        with pytest.raises(ValueError, match=r'does not state its activation, .*put its config\.json beside it'):
            found(tmp_path / f'{name}.safetensors')


@pytest.mark.parametrize(('name', 'pixels'), [
    ('vit_base_patch16_clip_224', OPENAI), ('vit_base_patch16_siglip_224', HALF), ('vit_tiny_patch16_224', IMAGENET)])
def test_in_timms_names_a_tower_is_known_by_the_parts_that_it_alone_has(tmp_path, name, pixels):
    model = randomized(timm.create_model(name, num_classes=0, **SMALL))
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    if pixels == OPENAI:
        with pytest.raises(ValueError, match='does not state its activation'):
            found(tmp_path / 'a.pth')
        (tmp_path / 'config.json').write_text('{"hidden_act": "quick_gelu"}')
    architecture = found(tmp_path / 'a.pth')
    assert architecture.pixels == pixels
    assert architecture.backbone['norm_eps'] == model.norm.eps == (1e-5 if pixels == OPENAI else 1e-6)
    assert (architecture.backbone.get('act_layer') == 'quick_gelu') == (pixels == OPENAI)


def test_what_is_stated_nowhere_is_said():
    assert found(HUB / 'vit').assumed == ()
    assert found(HUB / 'dinov3').assumed == (f'mean and std {IMAGENET}', )


def test_sizes_are_the_files(tmp_path):
    backbone = found(HUB / 'dinov2-swiglu').backbone
    assert {key: backbone[key] for key in ('embed_dim', 'depth', 'num_heads', 'patch_size', 'img_size')} == dict(
        embed_dim=16, depth=2, num_heads=2, patch_size=8, img_size=32)
    assert MODELS.build(backbone).timm_model.blocks[0].mlp.fc2.in_features == 24


@pytest.mark.parametrize(('hidden', 'width'), [(4096, 1536), (5461, 2048), (3072, 768), (49, 48), (1, 3)])
def test_the_ratio_makes_the_hidden_width_again(hidden, width):
    assert int(width * ratio_of(hidden, width)) == hidden


def test_other_encoders_are_refused(tmp_path):
    model = MODELS.build(dict(type='mm_graft.PostNormViT', img_size=32, patch_size=8, arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)))
    torch.save(model.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'config with mm_graft\.PostNormViT'):
        found(tmp_path / 'a.pth')
    torch.save(MODELS.build(dict(type='SwinTransformer', arch='tiny', img_size=64)).state_dict(), tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='not a plain ViT'):
        found(tmp_path / 'b.pth')
