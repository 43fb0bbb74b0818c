import json
import shutil

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file, save_file

from mm_graft.checkpoints import CheckpointError, convert_model, detect_layout, load_backbone, read_checkpoint
from mm_graft.checkpoints.architecture import architecture_of
from mm_graft.checkpoints.containers import read_file
from mm_graft.checkpoints.detection import LAYOUTS
from tests.checkpoints.hub import FAMILIES, HUB, check, expected, images, loaded, outputs

LAYOUT = {'vit-mae': 'hf-vit', 'deit': 'hf-vit', 'ijepa': 'hf-vit', 'dinov2-swiglu': 'hf-dinov2',
          'dinov2-registers': 'hf-dinov2', 'dinov3-swiglu': 'hf-dinov3', 'clip-vision': 'hf-clip',
          'siglip-vision': 'hf-siglip', 'open-clip': 'open-clip'}


def state(name):
    return read_checkpoint(HUB / name)


@pytest.mark.parametrize('name', FAMILIES)
def test_a_folder_gives_the_features_of_its_library(name):
    check(loaded(HUB / name), name)


@pytest.mark.parametrize('name', FAMILIES)
def test_the_layout_is_known_by_its_names(name):
    assert detect_layout(state(name)) == LAYOUT.get(name, f'hf-{name}')


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'model.', 'student.backbone.'])
@pytest.mark.parametrize('name', ['vit', 'dinov2-registers', 'dinov3', 'clip', 'siglip', 'beit-mim'])
def test_wrappers_are_seen_through(name, prefix, tmp_path):
    shutil.copytree(HUB / name, tmp_path / name)
    file = next((tmp_path / name).glob('*.safetensors'))
    save_file({prefix + key: tensor for key, tensor in load_file(file).items()}, file)
    check(loaded(tmp_path / name), name)


@pytest.mark.parametrize('name', ['vit', 'dinov2-registers', 'siglip'])
def test_a_pickle_and_shards_are_read_as_one_file_is(name, tmp_path):
    tensors = load_file(HUB / name / 'model.safetensors')
    for form in ('bin', 'shards'):
        folder = tmp_path / form
        folder.mkdir()
        shutil.copy(HUB / name / 'config.json', folder)
        if form == 'bin':
            torch.save(tensors, folder / 'pytorch_model.bin')
        else:
            names = sorted(tensors)
            parts = {'a.safetensors': names[::2], 'b.safetensors': names[1::2]}
            for part, keys in parts.items():
                save_file({key: tensors[key] for key in keys}, folder / part)
            places = {key: part for part, keys in parts.items() for key in keys}
            (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
        check(loaded(folder), name)


@pytest.mark.parametrize('name', FAMILIES)
def test_names_there_and_back_are_the_same_bits(name):
    source = state(name)
    layout = detect_layout(source)
    back = convert_model(source, layout, layout)
    own = {key for key in source if key.removeprefix('vision_model.') not in back.dropped and key not in back.dropped}
    start = next((start for start in ('vit.', 'beit.') if name != 'beit-mim'
                  and any(key.startswith(start) for key in source)), '')
    written = {start + key: tensor for key, tensor in back.backbone.items()}
    if name.endswith('-vision'):
        assert all(key.startswith('vision_model.') for key in written)
        written = {key.removeprefix('vision_model.'): tensor for key, tensor in written.items()}
    assert written.keys() == own
    for key, tensor in written.items():
        if name == 'dinov2-registers' and key in ('embeddings.cls_token', 'embeddings.position_embeddings'):
            continue  # the position of the class token is added to it, below
        assert torch.equal(tensor, source[key]), key


def test_the_class_token_beside_registers_takes_its_position():
    source = state('dinov2-registers')
    back = convert_model(source, None, 'hf-dinov2').backbone
    token, rows = (f'embeddings.{part}' for part in ('cls_token', 'position_embeddings'))
    assert torch.equal(back[token], source[token] + source[rows][:, :1])
    assert not back[rows][:, 0].any()
    assert torch.equal(back[rows][:, 1:], source[rows][:, 1:])


def test_a_plain_vit_and_a_dinov2_fill_the_hosts_vit():
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    sizes = dict(arch=arch, img_size=32, patch_size=8, out_type='raw')
    gated = dict(ffn_type='swiglu_fused')
    for name, layer in (('vit', {}), ('dinov2', {}), ('dinov2-swiglu', gated)):
        scale = dict(layer_scale_init_value=1.) if name != 'vit' else {}
        backbone = MODELS.build(dict(type='VisionTransformer', **sizes, layer_cfgs=layer, **scale))
        backbone.eval()
        load_backbone(backbone, HUB / name)
        with torch.no_grad():
            torch.testing.assert_close(backbone(images())[0], expected(name)['tokens'], rtol=0, atol=1e-5)


def test_masked_input_uses_the_token_of_the_file(tmp_path):
    settings = dict(type='mm_graft.TimmViT', model_name='vit_base_patch16_dinov3_qkvb', img_size=32, patch_size=8,
                    embed_dim=16, depth=2, num_heads=2, mlp_ratio=2., num_reg_tokens=3, with_mask_token=True)
    backbone = MODELS.build(settings)
    assert not load_backbone(backbone, HUB / 'dinov3').fresh
    assert torch.equal(backbone.timm_model.mask_token, state('dinov3')['embeddings.mask_token'])
    tensors = {key: value for key, value in state('dinov3').items() if 'mask' not in key}
    save_file(tensors, tmp_path / 'model.safetensors')
    assert load_backbone(backbone, tmp_path).fresh == ('timm_model.mask_token', )


@pytest.mark.parametrize(('name', 'target', 'message'), [
    ('dinov3', 'hf-vit', 'has no place for'), ('siglip', 'hf-dinov2', 'has no place for'),
    ('vit', 'hf-dinov2', 'is not an encoder of'), ('ijepa', 'hf-clip', 'is not an encoder of'),
    ('dinov3', 'dinov3', 'choose timm or hf-dinov3'), ('beit', 'torchvision', 'has no place for')])
def test_what_a_layout_cannot_hold_is_not_written(name, target, message):
    with pytest.raises(ValueError, match=message):
        convert_model(state(name), None, target)


@pytest.mark.parametrize('layout', [name for name in LAYOUTS if name.startswith('hf-')])
def test_a_third_of_a_matrix_is_not_taken_for_the_whole(layout):
    name = next(name for name in FAMILIES if LAYOUT.get(name, f'hf-{name}') == layout)
    key = next(key for key in state(name) if key.endswith(('key.weight', 'k_proj.weight')) and 'text' not in key)
    with pytest.raises(ValueError, match='has 2 of its three parts'):
        convert_model({other: tensor for other, tensor in state(name).items() if other != key}, layout, 'mmpretrain')


def test_patches_by_a_matrix_are_refused():
    tensors = state('siglip-vision')
    stem = 'embeddings.patch_embedding.weight'
    with pytest.raises(ValueError, match='NaFlex'):
        convert_model({**tensors, stem: tensors[stem].flatten(1)}, None, 'mmpretrain')


def test_another_activation_or_number_of_heads_than_stated_is_refused(tmp_path):
    sizes = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, mlp_ratio=2., pre_norm=True)
    for wrong, settings in (('heads 2', dict(num_heads=4, act_layer='quick_gelu')),
                            ('activation quick_gelu', dict(num_heads=2))):
        backbone = MODELS.build(dict(type='mm_graft.TimmViT', model_name='vit_base_patch16_224', **sizes, **settings))
        with pytest.raises(CheckpointError, match=f'it has {wrong} by .*config.json'):
            load_backbone(backbone, HUB / 'clip')


def test_another_eps_of_the_norms_is_said():
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    host = MODELS.build(dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8))
    coverage = load_backbone(host, HUB / 'vit')
    assert coverage.differs == (f'norm eps 1e-06 here, 1e-12 by {HUB / "vit/config.json"}', )
    assert 'differs from the file: norm eps 1e-06 here' in str(coverage)
    assert load_backbone(MODELS.build(architecture_of(read_file(HUB / 'vit')).backbone), HUB / 'vit').differs == ()


def test_features_see_every_image_apart():
    features = outputs(loaded(HUB / 'vit'), images().flip(0))['tokens']
    torch.testing.assert_close(features, expected('vit')['tokens'].flip(0), rtol=0, atol=2e-6)
