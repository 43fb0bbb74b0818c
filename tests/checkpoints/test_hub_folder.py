import argparse
import json

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError, Origin, convert_file, load_backbone, write_hub_folder
from mm_graft.checkpoints.files import read_provenance
from mm_graft.checkpoints.hub_folder import hidden_of
from mm_graft.checkpoints.settings import IMAGENET
from mm_graft.pretrained import load_pretrained
from tests.checkpoints.hub import FAMILIES, HUB, check, images, loaded, outputs
from tests.checkpoints.test_architecture import NAMED
from tests.checkpoints.test_authors import SMALL, randomized
from tests.tiny import VIT, recorded_checkpoint, vit_state

HF = {'clip': 'clip-vision', 'siglip': 'siglip-vision', 'open-clip': 'clip-vision', 'beit-mim': 'beit',
      'vit-mae': 'vit'}
# what a tower alone, or a model for another task, says of itself
OTHER = {'architectures', 'model_type', 'hidden_act', 'use_mask_token', 'use_mean_pooling', 'layer_norm_eps',
         'use_relative_position_bias', 'use_shared_relative_position_bias'}


@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_written_has_the_same_features_and_the_librarys_own_settings(name, tmp_path):
    record = write_hub_folder(Origin(HUB / name), tmp_path / 'new')
    check(loaded(tmp_path / 'new'), name)
    written = json.loads((tmp_path / 'new/config.json').read_text())
    theirs = json.loads((HUB / HF.get(name, name) / 'config.json').read_text())
    skipped = OTHER if name in HF else {'architectures'}
    skipped |= {'intermediate_size'} if name == 'dinov2-swiglu' else set()  # transformers take the ratio
    shared = {key for key in written if key in theirs and key not in skipped}
    assert len(shared) >= 7
    assert {key: written[key] for key in shared} == {key: theirs[key] for key in shared}
    assert name in HF or written['model_type'] == theirs['model_type']
    assert record['to'].startswith('hf-')
    assert read_provenance(tmp_path / 'new')['source'] == name



@pytest.mark.parametrize('name', ['vit', 'clip', 'open-clip', 'dinov3'])
def test_mean_and_std_are_kept_or_the_familys(name, tmp_path):
    write_hub_folder(Origin(HUB / name), tmp_path / 'new')
    written = json.loads((tmp_path / 'new/preprocessor_config.json').read_text())
    mean = {'vit': 0.5, 'dinov3': 0.485}.get(name, 0.48145466)
    assert written['image_mean'][0] == pytest.approx(mean)
    assert written['size'] == {'height': 32, 'width': 32}


@pytest.mark.parametrize('name', [name for name in NAMED if not name.startswith('deit3')])
def test_a_runs_checkpoint_of_a_vit_of_timm_becomes_a_folder(name, tmp_path):
    """The run's config says heads, activation, norms and pixels."""
    model = randomized(timm.create_model(name, num_classes=0, **SMALL | NAMED[name]))
    backbone = dict(type='mm_graft.TimmViT', model_name=name, **SMALL | NAMED[name])
    cfg = Config(dict(model=dict(backbone=backbone), data_preprocessor=dict(mean=[51.] * 3, std=[102.] * 3)))
    state = {f'backbone.timm_model.{key}': tensor for key, tensor in model.state_dict().items()}
    torch.save({'meta': {'cfg': cfg.pretty_text}, 'state_dict': state}, tmp_path / 'a.pth')
    write_hub_folder(Origin(tmp_path / 'a.pth'), tmp_path / 'new')
    again = MODELS.build(backbone)
    load_backbone(again, tmp_path / 'new')
    with torch.no_grad():
        torch.testing.assert_close(outputs(again.eval())['tokens'], model.forward_features(images()))
        torch.testing.assert_close(outputs(loaded(tmp_path / 'new'))['tokens'], model.forward_features(images()))
    written = json.loads((tmp_path / 'new/preprocessor_config.json').read_text())
    assert (written['image_mean'], written['image_std']) == ([0.2] * 3, [0.4] * 3)


def test_a_runs_checkpoint_of_the_hosts_vit_keeps_its_normalization_and_norms(tmp_path):
    """Of five channels; the file and the folder made of it, and a file for timm, know what the run knew."""
    backbone = dict(type='mm_graft.GraftViT', **VIT, stop_grad_conv1=False, in_channels=5)
    pixels = dict(mean=[51., 0., 0., 0., 102.], std=[25.5] * 5)
    recorded_checkpoint(tmp_path / 'a.pth', dict(type='ImageClassifier', backbone=backbone), data_preprocessor=pixels)
    write_hub_folder(Origin(tmp_path / 'a.pth'), tmp_path / 'new')
    written = json.loads((tmp_path / 'new/preprocessor_config.json').read_text())
    assert (written['image_mean'], written['image_std']) == ([0.2, 0, 0, 0, 0.4], [0.1] * 5)
    assert json.loads((tmp_path / 'new/config.json').read_text())['layer_norm_eps'] == 1e-6
    convert_file(Origin(tmp_path / 'a.pth'), tmp_path / 'b.safetensors', 'timm')
    features = [load_pretrained(tmp_path / name)(torch.ones(2, 5, 32, 32) / 3)[1]
                for name in ('a.pth', 'new', 'b.safetensors')]
    torch.testing.assert_close(features[1], features[0])
    torch.testing.assert_close(features[2], features[0])


def test_what_a_file_does_not_say_is_its_own_familys_and_not_that_of_the_folder(tmp_path):
    """MAE's authors normalize by ImageNet's mean and have norms of 1e-6; transformers' ViT by 0.5 and 1e-12."""
    state = {'model': vit_state(), 'args': argparse.Namespace(num_heads=2)}
    torch.save(state, tmp_path / 'mae.pth')
    write_hub_folder(Origin(tmp_path / 'mae.pth', grid=(4, 4)), tmp_path / 'new')
    written = json.loads((tmp_path / 'new/preprocessor_config.json').read_text())
    assert written['image_mean'] == list(IMAGENET[0])
    assert json.loads((tmp_path / 'new/config.json').read_text())['layer_norm_eps'] == 1e-6


def test_a_folder_of_images_of_other_channels_must_know_their_mean(tmp_path):
    state = vit_state() | {'patch_embed.proj.weight': torch.randn(16, 5, 8, 8)}
    torch.save({'model': state, 'args': argparse.Namespace(num_heads=2)}, tmp_path / 'five.pth')
    with pytest.raises(CheckpointError, match='images of 5 channels, by whose mean and std'):
        write_hub_folder(Origin(tmp_path / 'five.pth', grid=(4, 4)), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_positions_are_interpolated_on_request(tmp_path):
    write_hub_folder(Origin(HUB / 'dinov2-registers'), tmp_path / 'new', grid=(6, 6))
    assert json.loads((tmp_path / 'new/config.json').read_text())['image_size'] == 48
    assert loaded(tmp_path / 'new').patch_resolution == (6, 6)


def test_what_transformers_cannot_hold_and_what_is_not_known_is_refused(tmp_path):
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0, **SMALL)
    torch.save(model.state_dict(), tmp_path / 'bare.pth')
    with pytest.raises(CheckpointError, match="needs the encoder's heads, activation and image size"):
        write_hub_folder(Origin(tmp_path / 'bare.pth'), tmp_path / 'new')
    state = timm.create_model('vit_base_patch16_clip_224', num_classes=0, qk_norm=True, **SMALL).state_dict()
    torch.save(state, tmp_path / 'normed.pth')
    with pytest.raises(CheckpointError, match='no encoder of transformers holds this one'):
        write_hub_folder(Origin(tmp_path / 'normed.pth'), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match=r'cannot be written into: .* is a file'):  # before anything is read
        write_hub_folder(Origin('no such file'), tmp_path / 'file' / 'folder')
    with pytest.raises(ValueError, match='there already'):
        write_hub_folder(Origin(HUB / 'vit'), tmp_path)
    with pytest.raises(ValueError, match='the name of a file'):
        write_hub_folder(Origin(HUB / 'vit'), tmp_path / 'a.pth')


@pytest.mark.parametrize(('width', 'ratio', 'hidden'), [(1536, 4, 4096), (16, 2, 24), (1024, 4, 2736)])
def test_gated_parts_of_dinov2_are_two_thirds_as_wide_by_eights(width, ratio, hidden):
    assert hidden_of(width * ratio, True) == hidden
    assert hidden_of(width * ratio, False) == width * ratio
