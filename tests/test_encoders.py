import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from timm.models import VisionTransformer

from mm_graft.checkpoints import CheckpointError
from mm_graft.encoders import Encoder, build_encoder, encode_full, load_encoder, normalization_of, outputs_of_blocks
from tests.tiny import PREPROCESSOR, VIT, mae, mae_file


def config(**backbone):
    return Config(dict(model={**mae(), 'backbone': dict(type='MAEViT', **VIT) | backbone}))


def timm_vit(**size):
    return VisionTransformer(**dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2) | size).eval()


def test_an_encoder_that_hides_patches_sees_all_of_them_here(tmp_path):
    encoder = load_encoder(config(), mae_file(tmp_path / 'mae.pth'))
    images = torch.rand(2, 3, 32, 32)
    tokens = encoder(images)
    assert tokens.shape == (2, 17, 16)
    assert torch.equal(tokens, encoder.backbone(images, mask=None)[-1])
    assert not encoder.training


def test_of_several_outputs_the_last_is_taken():
    backbone = MODELS.build(dict(type='VisionTransformer', out_type='raw', out_indices=(1, 3), **VIT))
    backbone.eval()
    images = torch.rand(2, 3, 32, 32)
    first, last = backbone(images)
    assert torch.equal(encode_full(backbone, images), last)
    assert not torch.equal(first, last)


def test_what_is_kept_of_each_block_is_listed_while_that_is_asked_for():
    backbone, images = timm_vit(), torch.rand(3, 3, 32, 32)
    with outputs_of_blocks(backbone) as tokens:
        encode_full(backbone, images)
    assert torch.equal(backbone.norm(tokens[1]), encode_full(backbone, images))
    with outputs_of_blocks(backbone, keep=lambda tokens: tokens[:, 0]) as kept:
        encode_full(backbone, images)
    assert all(torch.equal(part, whole[:, 0]) for part, whole in zip(kept, tokens))
    assert len(kept) == 2
    assert len(tokens) == 2  # closed before


def test_sizes_are_those_of_the_patch_embedding():
    wide = Encoder(MODELS.build(dict(type='VisionTransformer', **VIT | dict(img_size=(32, 48), in_channels=1))))
    assert (wide.grid, wide.patch_size, wide.image_size, wide.num_channels) == ((4, 6), 8, (32, 48), 1)
    vit = Encoder(timm_vit(img_size=(32, 48), in_chans=2))
    assert (vit.grid, vit.patch_size, vit.image_size, vit.num_channels) == ((4, 6), 8, (32, 48), 2)


def test_pixels_are_normalized_with_the_configs_numbers_and_back(tmp_path):
    cfg = config()
    cfg.model.data_preprocessor = {**PREPROCESSOR, 'mean': [10.0, 20.0, 30.0], 'std': [2.0, 4.0, 8.0]}
    encoder = load_encoder(cfg, mae_file(tmp_path / 'mae.pth'))
    pixels = torch.tensor([12, 24, 38], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(encoder.normalize(pixels), torch.ones(1, 3, 1, 1))
    torch.testing.assert_close(encoder.denormalize(torch.ones(1, 3, 1, 1)), pixels.float())
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(encoder.encode_pixels(pixels), encoder(encoder.normalize(pixels)))


def test_patch_tokens_of_a_wide_image_are_all_of_its_patches():
    vit, images = timm_vit(img_size=(32, 48), class_token=True), torch.rand(2, 3, 32, 48)
    assert torch.equal(Encoder(vit).patch_tokens(images), vit.forward_features(images)[:, 1:])
    assert Encoder(vit).patch_tokens(images).shape == (2, 24, 16)


def test_pixels_of_any_type_become_single_precision():
    for mean in (None, [0.0] * 3):
        encoder = Encoder(timm_vit(), mean, mean and [1.0] * 3)
        for pixels in (torch.ones(1, 3, 2, 2, dtype=torch.uint8), torch.ones(1, 3, 2, 2).double()):
            assert encoder.normalize(pixels).dtype == torch.float32


def test_positions_of_another_grid_are_resized_if_that_is_asked_for(tmp_path):
    path, wide = mae_file(tmp_path / 'mae.pth'), config(img_size=(32, 64))
    assert load_encoder(wide, path, resize=True).grid == (4, 8)
    with pytest.raises(CheckpointError, match='resize'):
        load_encoder(wide, path)


def test_without_a_mean_images_come_normalized():
    encoder, pixels = Encoder(timm_vit()), torch.rand(1, 3, 32, 32)
    assert torch.equal(encoder.normalize(pixels), pixels)
    assert torch.equal(encoder.denormalize(pixels), pixels)


def test_the_preprocessor_takes_the_datas_channels_in_their_order():
    cfg = config()
    cfg.model.data_preprocessor = dict(mean=[1.0, 2.0, 3.0], std=[1.0] * 3, bgr_to_rgb=True)
    image = torch.tensor([13, 12, 11], dtype=torch.uint8).view(3, 1, 1)  # blue, green, red
    inputs = build_encoder(cfg).data_preprocessor({'inputs': [image]}, False)['inputs']
    assert inputs.flatten().tolist() == [10, 10, 10]


def test_a_normalization_at_the_top_of_a_config_will_do():
    settings = dict(mean=[1.0], std=[2.0], to_rgb=True, type='SelfSupDataPreprocessor')
    assert normalization_of(Config(dict(data_preprocessor=settings))) == dict(mean=[1.0], std=[2.0], to_rgb=True)
    assert normalization_of(Config(dict(data_preprocessor=dict(mean=[1.0], std=[2.0])))) == dict(
        mean=[1.0], std=[2.0], to_rgb=False)
    silent = dict(data_preprocessor=dict(mean=[1.0], std=[2.0], to_rgb=None))
    assert normalization_of(Config(silent))['to_rgb'] is False
    assert normalization_of(Config(dict(model=dict()))) == dict(mean=None, std=None, to_rgb=False)


def test_an_encoder_needs_no_file_that_its_config_starts_from():
    cfg = config()
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    assert build_encoder(cfg).backbone.init_cfg is None


def test_patch_tokens_are_those_of_the_last_norm_whatever_the_encoder_gives(tmp_path):
    path, images = mae_file(tmp_path / 'mae.pth'), torch.rand(2, 3, 32, 32)
    raw = load_encoder(config(), path)
    pooled = load_encoder(config(type='mm_graft.GraftViT', out_type='cls_token'), path)
    torch.testing.assert_close(pooled.patch_tokens(images), raw(images)[:, 1:])
    assert pooled.backbone.out_type == 'cls_token'


def test_a_timm_vit_is_an_encoder_too_bare_or_wrapped():
    vit, images = timm_vit(), torch.rand(2, 3, 32, 32)
    tokens = vit.forward_features(images)
    assert torch.equal(encode_full(vit, images), tokens)
    assert torch.equal(Encoder(vit).patch_tokens(images), tokens[:, 1:])
    wrapped = MODELS.build(dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', depth=1))
    wrapped.timm_model = vit
    assert torch.equal(Encoder(wrapped).patch_tokens(images), tokens[:, 1:])


def test_other_widths_and_configs_without_an_encoder_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match='another shape'):
        load_encoder(config(), mae_file(tmp_path / 'wide.pth', width=32))
    for cfg in (Config({}), Config({'model': {'type': 'X'}})):
        with pytest.raises(ValueError, match=r'no `model\.backbone`'):
            load_encoder(cfg, 'mae.pth')
