import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.commands.start.given import local_weights, read_encoder
from tests.checkpoints.hub import HUB, check, images, loaded, outputs
from tests.checkpoints.test_authors import SMALL, randomized
from tests.tiny import mae_file, vit_state


def test_size_and_image_are_read_from_the_tensors(tmp_path):
    encoder = read_encoder(mae_file(tmp_path / 'mae.pth', width=192, layers=3))
    assert (encoder.width, encoder.blocks, encoder.heads) == (192, 3, 3)
    assert (encoder.image_size, encoder.patch_size) == (32, 8)
    assert (encoder.backbone['type'], encoder.backbone['out_type']) == ('mm_graft.TimmViT', 'cls_token')
    assert encoder.pixels['std'] == pytest.approx([58.395, 57.12, 57.375])


def test_weights_of_dinov2_are_an_encoder_too(tmp_path):
    vit = timm.create_model('vit_small_patch14_dinov2', embed_dim=128, depth=2, num_heads=2, img_size=56)
    torch.save(vit.state_dict(), tmp_path / 'dinov2.pth')
    encoder = read_encoder(str(tmp_path / 'dinov2.pth'))
    assert (encoder.width, encoder.blocks, encoder.image_size, encoder.patch_size) == (128, 2, 56, 14)


def test_weights_for_the_channels_of_the_folder_need_no_mean(tmp_path):
    """Its images are normalized by what was measured in them."""
    torch.save({'model': vit_state() | {'patch_embed.proj.weight': torch.randn(16, 5, 8, 8)}}, tmp_path / 'a.pth')
    assert read_encoder(str(tmp_path / 'a.pth'), channels=5).backbone['in_channels'] == 5
    for channels in (None, 4):
        with pytest.raises(ValueError, match='images of 5 channels, by whose mean and std'):
            read_encoder(str(tmp_path / 'a.pth'), channels)


def test_other_files_are_refused(tmp_path):
    torch.save({'model': {'blocks.0.norm1.weight': torch.ones(4)}}, tmp_path / 'half.pth')
    with pytest.raises(CheckpointError):
        read_encoder(str(tmp_path / 'half.pth'))


@pytest.mark.parametrize(('name', 'tokens', 'mean'), [
    ('dinov2-registers', 'cls_token', 0.485), ('siglip', 'pooled', 0.5), ('ijepa', 'avg_featmap', 0.485),
    ('vit-mae', 'avg_featmap', 0.485), ('clip', 'cls_token', 0.48145466), ('dinov3', 'cls_token', 0.485)])
def test_public_weights_say_their_tokens_and_pixels(name, tokens, mean):
    encoder = read_encoder(str(HUB / name))
    assert (encoder.width, encoder.blocks, encoder.heads, encoder.image_size, encoder.patch_size) == (16, 2, 2, 32, 8)
    assert encoder.backbone['out_type'] == tokens
    assert encoder.pixels['mean'][0] == pytest.approx(255 * mean)


@pytest.fixture
def hub(monkeypatch):
    """Timm with one pretrained model, which needs no network; the calls that were made."""
    calls, make = [], timm.create_model

    def create(name, pretrained=False, **settings):
        calls.append((name, pretrained))
        if name == 'vit_tiny_patch16_224':
            raise RuntimeError('no network\nat all')
        return randomized(make(name, **settings, **SMALL))

    monkeypatch.setattr(timm, 'create_model', create)
    return calls


def test_a_name_of_timm_is_fetched_once_as_a_folder(hub, tmp_path):
    folder = local_weights('timm/vit_small_patch14_reg4_dinov2.lvd142m', tmp_path)
    assert folder == str(tmp_path / 'weights' / 'vit_small_patch14_reg4_dinov2.lvd142m')
    assert local_weights('timm/vit_small_patch14_reg4_dinov2.lvd142m', tmp_path) == folder
    assert hub == [('vit_small_patch14_reg4_dinov2.lvd142m', True)]
    config = json.loads((tmp_path / 'weights/vit_small_patch14_reg4_dinov2.lvd142m/config.json').read_text())
    assert config['architecture'] == 'vit_small_patch14_reg4_dinov2'


def test_what_timm_cannot_give_is_one_line_with_a_way_out(hub, tmp_path):
    with pytest.raises(ValueError, match=r"no model 'vit_smal'"):
        local_weights('timm/vit_smal', tmp_path)
    with pytest.raises(ValueError, match=r'cannot be fetched: no network; fetch it elsewhere, and give the folder'):
        local_weights('timm/vit_tiny_patch16_224', tmp_path)
    assert not list(tmp_path.glob('weights/*'))
    assert local_weights('a.pth', tmp_path) == 'a.pth'
    assert local_weights(None, tmp_path) is None


def test_three_commands_from_a_folder_to_a_continued_evaluated_exported_encoder(run, tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(('red', 'green')):
        for split in ('train', 'val'):
            (tmp_path / 'own' / split / name).mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, 120, (40, 40, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / 'own' / split / name / f'{index}.png')
    out = tmp_path / 'out'
    run('start', tmp_path / 'own', '--from', HUB / 'dinov2-registers', '--minutes', 0.005, '--out', out)
    last = (out / 'continue/last_checkpoint').read_text().strip()
    table = run('evaluate', last, '--labels', tmp_path / 'own', '--protocols', 'knn', '--cache', tmp_path / 'cache')
    assert 'knn' in table
    run('convert', 'layout', last, tmp_path / 'new', '--to', 'hf')
    before, after = loaded(HUB / 'dinov2-registers'), loaded(tmp_path / 'new')
    check(before, 'dinov2-registers')
    assert not torch.equal(outputs(after)['tokens'], outputs(before)['tokens'])
    load_backbone(before, last)
    torch.testing.assert_close(outputs(after)['tokens'], outputs(before, images())['tokens'])
