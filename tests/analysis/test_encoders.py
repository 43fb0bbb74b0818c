import pytest
import torch
from mmengine.config import Config
from timm.models import VisionTransformer

from mm_graft.analysis.encoders import Encoder, load_encoder
from mm_graft.checkpoints import CheckpointError
from tests.tiny import PREPROCESSOR, VIT, mae, mae_file


def config(**backbone):
    return Config(dict(model={**mae(), 'backbone': dict(type='MAEViT', **VIT) | backbone}))


def test_an_encoder_that_hides_patches_sees_all_of_them_here(tmp_path):
    encoder = load_encoder(config(), mae_file(tmp_path / 'mae.pth'))
    images = torch.rand(2, 3, 32, 32)
    assert encoder(images)[-1].shape == (2, 17, 16)
    assert torch.equal(encoder(images)[-1], encoder(images)[-1])
    assert not encoder.training
    assert (encoder.grid, encoder.patch_size, encoder.image_size) == ((4, 4), 8, (32, 32))


def test_images_are_normalised_with_the_configs_numbers(tmp_path):
    cfg = config()
    cfg.model.data_preprocessor = {**PREPROCESSOR, 'mean': [10.0, 20.0, 30.0], 'std': [2.0, 4.0, 8.0]}
    encoder = load_encoder(cfg, mae_file(tmp_path / 'mae.pth'))
    pixels = torch.tensor([12, 24, 38], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(encoder.normalise(pixels), torch.ones(1, 3, 1, 1))


def test_patch_tokens_are_those_of_the_last_norm_whatever_the_encoder_gives(tmp_path):
    path, images = mae_file(tmp_path / 'mae.pth'), torch.rand(2, 3, 32, 32)
    raw = load_encoder(config(), path)
    pooled = load_encoder(config(type='mm_graft.GraftViT', out_type='cls_token'), path)
    torch.testing.assert_close(pooled.patch_tokens(images), raw(images)[-1][:, 1:])
    assert pooled.backbone.out_type == 'cls_token'


def test_a_timm_vit_is_an_encoder_too():
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2).eval()
    encoder = Encoder(vit, [0.0] * 3, [1.0] * 3)
    assert (encoder.grid, encoder.patch_size) == ((4, 4), 8)
    assert encoder.patch_tokens(torch.rand(2, 3, 32, 32)).shape == (2, 16, 16)


def test_other_widths_and_configs_without_an_encoder_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match='another shape'):
        load_encoder(config(), mae_file(tmp_path / 'wide.pth', width=32))
    with pytest.raises(ValueError, match=r'no `model\.backbone`'):
        load_encoder(Config({}), 'mae.pth')
