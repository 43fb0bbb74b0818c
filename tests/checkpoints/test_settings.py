import json

import pytest

from mm_graft.checkpoints.detection import LAYOUT_NAMES
from mm_graft.checkpoints.settings import FAMILIES, HALF, IMAGENET, OPENAI, Settings, settings_beside
from tests.checkpoints.hub import HUB


@pytest.fixture
def beside(tmp_path):
    def write(config, images=None, name='config.json'):
        (tmp_path / name).write_text(json.dumps(config) if not isinstance(config, str) else config)
        if images is not None:
            (tmp_path / 'preprocessor_config.json').write_text(json.dumps(images))
        return settings_beside(tmp_path / 'model.safetensors')
    return write


@pytest.mark.parametrize(('name', 'family', 'pixels'), [
    ('vit', 'vit', HALF), ('dinov2', 'dinov2', IMAGENET), ('clip', 'clip', OPENAI), ('dinov3', 'dinov3_vit', None)])
def test_transformers_files_say_family_sizes_and_pixels(name, family, pixels):
    found = settings_beside(HUB / name)
    assert (found.family, found.pixels) == (family, pixels)
    assert (found.vision['image_size'], found.vision['patch_size']) == (32, 8)
    assert found.source == str(HUB / name / 'config.json')


def test_a_config_of_two_towers_is_read_for_its_images():
    assert settings_beside(HUB / 'clip').vision['hidden_size'] == 16
    assert settings_beside(HUB / 'clip').vision['hidden_act'] == 'quick_gelu'


def test_open_clips_file_says_heads_activation_and_pixels(beside):
    found = settings_beside(HUB / 'open-clip')
    assert (found.vision['num_attention_heads'], found.vision['hidden_act'], found.pixels) == (2, 'quick_gelu', OPENAI)
    tower = {'model_cfg': {'vision_cfg': {'width': 128, 'image_size': 64, 'patch_size': 16}}}
    found = beside(tower, name='open_clip_config.json')
    assert (found.vision['num_attention_heads'], found.vision['hidden_act'], found.pixels) == (2, 'gelu', None)
    trunk = {'model_cfg': {'vision_cfg': {'timm_model_name': 'vit_base_patch16_siglip_224', 'image_size': 224}}}
    found = beside(trunk, name='open_clip_config.json')
    assert (found.model, dict(found.vision)) == ('vit_base_patch16_siglip_224', {'image_size': 224, 'patch_size': None})


def test_timms_file_says_the_name_the_arguments_and_the_pixels(beside):
    config = {'architecture': 'vit_small_patch14_dinov2', 'model_args': {'depth': 2},
              'pretrained_cfg': {'input_size': [3, 518, 518], 'mean': list(IMAGENET[0]), 'std': list(IMAGENET[1])}}
    found = beside(config)
    assert (found.model, found.arguments, found.vision['image_size'], found.pixels) == (
        'vit_small_patch14_dinov2', {'depth': 2}, [518, 518], IMAGENET)


@pytest.mark.parametrize('config', ['{', '[1]', '{}'])
def test_what_is_no_config_says_nothing(beside, config):
    assert beside(config) == Settings()


@pytest.mark.parametrize('images', [
    {'image_mean': [0.5], 'image_std': [0.5, 0.5]}, {'image_mean': ['0.5'], 'image_std': [0.5]}, {'image_mean': 0.5},
    {'image_mean': [0.5], 'image_std': [0.0]}, {}])
def test_pixels_that_cannot_be_are_absent(beside, images):
    assert beside({'model_type': 'vit'}, images).pixels is None


def test_every_new_layout_has_a_family():
    public = {name for name in LAYOUT_NAMES if name.startswith(('hf-', 'open-', 'torchvision', 'dinov', 'timm-'))}
    assert len(public) == 12
    assert public <= set(FAMILIES)
