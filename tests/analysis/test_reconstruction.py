import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from mm_graft.analysis.reconstruction import (
    patchify,
    read_images,
    read_readable,
    reconstruct,
    strokes,
    to_picture,
    tokens_to_histograms,
    visible,
    visible_channels,
)
from mm_graft.checkpoints.model_weights import load_model
from tests.test_image_files import png_of

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}
HOG = {'type': 'mm_graft.HOGTarget', 'cells': [4, 8]}
PIXELS = {'type': 'mm_graft.PixelTarget', 'cells': [4, 8]}


def localmim_cfg(target: dict = HOG, out_channels=27) -> Config:
    return Config(dict(
        default_scope='mmpretrain',
        data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True),
        model=dict(
            type='mm_graft.LocalMIM', head=dict(type='mm_graft.LocalMIMHead'), target_generator=target,
            backbone=dict(type='mm_graft.VisiblePatchViT', arch=ARCH, img_size=(16, 32), patch_size=8, taps=[2, 4],
                          mask_ratio=0.5),
            neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=[(2, 4), (2, 4)], scales=[2, 1],
                      embed_dims=8, num_heads=2, out_channels=out_channels))))


def mae_cfg(norm_pix: bool = True) -> Config:
    return Config(dict(
        data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[120.] * 3, std=[60.] * 3),
        model=dict(
            type='MAE', backbone=dict(type='MAEViT', arch=ARCH, img_size=32, patch_size=8),
            neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=16, decoder_embed_dim=8,
                      decoder_depth=1, decoder_num_heads=2),
            head=dict(type='MAEPretrainHead', norm_pix=norm_pix, patch_size=8,
                      loss=dict(type='PixelReconstructionLoss', criterion='L2')))))


def loaded(cfg: Config, folder) -> torch.nn.Module:
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    torch.save({'state_dict': model.state_dict()}, folder / 'a.pth')
    return load_model(cfg, folder / 'a.pth')[0]


def pictures(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)


def test_localmim_gives_histograms_of_every_scale(tmp_path):
    model = loaded(localmim_cfg(), tmp_path)
    first, second = reconstruct(model, pictures(16, 32))
    assert first.mask.shape == (2, 4)
    assert [scale.target.shape for scale in first.scales] == [(4, 8, 9), (2, 4, 9)]
    assert all(scale.is_histogram and scale.prediction.shape == scale.target.shape for scale in second.scales)
    np.testing.assert_array_equal(first.scales[1].hidden, first.mask)
    np.testing.assert_array_equal(first.scales[0].hidden, first.mask.repeat(2, 0).repeat(2, 1))


def test_pixel_targets_are_the_image_again(tmp_path):
    for options in ({}, {'standardized': False}):
        cfg = localmim_cfg({**PIXELS, **options}, [48, 192])
        images = pictures(16, 32)
        for shown, image in zip(reconstruct(loaded(cfg, tmp_path), images), images):
            for scale in shown.scales:
                np.testing.assert_allclose(scale.target, image / 255, atol=1e-5)
                assert not scale.is_histogram


@pytest.mark.parametrize('norm_pix', [True, False])
def test_the_hosts_mae_is_drawn_too(tmp_path, norm_pix):
    images = pictures(32, 32)
    shown = reconstruct(loaded(mae_cfg(norm_pix), tmp_path), images)[1]
    assert shown.mask.sum() == 12
    assert shown.scales[0].hidden.shape == (4, 4)
    np.testing.assert_allclose(shown.scales[0].target, images[1] / 255, atol=1e-5)


def test_scales_that_are_switched_off_are_left_out(tmp_path):
    model = loaded(localmim_cfg(), tmp_path)
    model.on_freeze(2)
    assert len(reconstruct(model, pictures(16, 32))[0].scales) == 1


def test_the_authors_checkpoint_can_be_drawn(golden):
    path = next(golden.glob('localmim_checkpoint-*.pth'))
    state = torch.load(path, weights_only=True)['model']
    dims, decoder = state['cls_token'].shape[-1], state['decoder.0.mask_token'].shape[-1]
    depth = sum(name.startswith('blocks.') and name.endswith('qkv.bias') for name in state)
    arch = dict(embed_dims=dims, num_layers=depth, num_heads=2, feedforward_channels=4 * dims)
    cfg = Config(dict(model=dict(
        type='mm_graft.LocalMIM', backbone=dict(type='mm_graft.VisiblePatchViT', arch=arch),
        neck=dict(type='mm_graft.LocalMIMNeck', in_channels=dims, embed_dims=decoder, num_heads=2),
        target_generator=dict(type='mm_graft.HOGTarget'), head=dict(type='mm_graft.LocalMIMHead'))))
    torch.testing.assert_close(load_model(cfg, path)[0].backbone.cls_token.data, state['cls_token'])


def test_a_model_that_reconstructs_nothing_is_refused():
    model = torch.nn.Linear(2, 2)
    model.data_preprocessor = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=[0.] * 3, std=[1.] * 3))
    with pytest.raises(TypeError, match='Linear cannot be drawn'):
        reconstruct(model, pictures(8, 8))


def test_pictures_are_cut_from_the_center(tmp_path):
    picture = np.zeros((10, 30, 3), dtype=np.uint8)
    picture[:, 10:20] = 255
    Image.fromarray(picture).save(tmp_path / 'a.png')
    assert (read_images([tmp_path / 'a.png'], (10, 10)) == 255).all()
    assert read_images([tmp_path / 'a.png'] * 2, (16, 24)).shape == (2, 16, 24, 3)
    for bad in ('none.png', ''):
        with pytest.raises(ValueError, match='is not a readable picture'):
            read_images([tmp_path / bad], (10, 10))


def test_patches_can_be_put_together_again():
    images = torch.rand(2, 3, 8, 12)
    again = to_picture(patchify(images, 4), (2, 3), 3, torch.zeros(3), torch.full((3, ), 255.))
    torch.testing.assert_close(again, images.permute(0, 2, 3, 1))


def test_histograms_are_means_over_the_colors_without_negative_entries():
    tokens = torch.tensor([[[1., -9., 2., -9., 3., 0.]]])  # one cell, 2 bins, R G B
    assert tokens_to_histograms(tokens, (1, 1), 2).flatten().tolist() == [2, 0]


def test_strokes_run_along_the_edge():
    vertical_edge = np.zeros((1, 1, 9))
    vertical_edge[0, 0, 4] = 1  # atan2(g_x, g_y) around 90°: the gradient is horizontal
    ends, entries = strokes(vertical_edge, 10, 10)
    (x0, y0), (x1, y1) = ends[entries.argmax()]
    assert x0 == pytest.approx(x1)
    assert abs(y1 - y0) == pytest.approx(9.2)


def test_strokes_sit_in_their_cells():
    ends, _ = strokes(np.ones((2, 4, 3)), 40, 20)
    np.testing.assert_allclose(ends.mean(1)[0], (5, 5))
    np.testing.assert_allclose(ends.mean(1)[-1], (35, 15))


@pytest.mark.parametrize('kind', ['strip', 'bomb', 'pipe', 'device', 'text', 'missing'])
def test_pictures_that_would_fill_the_memory_or_never_end_are_named(tmp_path, kind):
    path = tmp_path / 'a.png'
    if kind == 'strip':
        Image.new('RGB', (1, 65000)).save(path)
    elif kind == 'bomb':
        path.write_bytes(png_of(20000, 20000))
    elif kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'text':
        path.write_text('no picture')
    path = '/dev/zero' if kind == 'device' else path
    with pytest.raises(ValueError, match=f'{path} is not a readable picture: '):
        read_images([path], (32, 32))


def test_a_model_of_one_channel_is_drawn_in_gray(tmp_path):
    cfg = mae_cfg()
    cfg.data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[120.], std=[60.])
    cfg.model.backbone.patch_cfg = dict(in_channels=1)
    cfg.model.neck.in_chans = cfg.model.head.in_channels = 1
    model = loaded(cfg, tmp_path)
    Image.fromarray(np.arange(32 * 40, dtype=np.uint8).reshape(32, 40)).save(tmp_path / 'gray.png')
    images = read_images([tmp_path / 'gray.png'], (32, 32), 1)
    assert images.shape == (1, 32, 32, 1)
    result = reconstruct(model, images)[0]
    assert result.image.shape == result.scales[0].target.shape == (32, 32, 3)
    np.testing.assert_allclose(result.scales[0].target, result.image, atol=1e-5)
    assert (result.image[..., 0] == result.image[..., 2]).all()


def test_three_channels_show_what_they_can():
    many = np.arange(5.)[None]
    assert visible_channels(many).tolist() == [[0, 1, 2]]
    assert visible_channels(many[:, 3:]).tolist() == [[3, 4, 0]]
    assert visible_channels(many[:, 4:]).tolist() == [[4, 4, 4]]
    assert visible_channels(many[:, 1:4]).tolist() == [[1, 2, 3]]


def test_colors_keep_their_order(tmp_path):
    Image.new('RGB', (8, 8), (200, 100, 0)).save(tmp_path / 'a.png')
    assert read_images([tmp_path / 'a.png'], (8, 8))[0, 0, 0].tolist() == [200, 100, 0]


def test_images_of_many_channels_are_read_at_their_depth(tmp_path):
    np.save(tmp_path / 'a.npy', np.full((40, 50, 5), 257 * 3, np.uint16))
    found = read_images([tmp_path / 'a.npy'], (16, 24), channels=5)
    assert found.shape == (1, 16, 24, 5)
    np.testing.assert_allclose(found, 3, rtol=1e-5)
    assert read_images([tmp_path / 'a.npy'], (16, 24), 5, dict(value_range=(0, 771))).max() == 255
    with pytest.raises(ValueError, match='has 5 channels, and the model takes 4'):
        read_images([tmp_path / 'a.npy'], (16, 24), channels=4)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_a_mae_that_predicts_its_targets_is_drawn_as_the_image(tmp_path, norm_pix):
    images, model = pictures(32, 32), loaded(mae_cfg(norm_pix), tmp_path)
    inputs = (torch.from_numpy(images).float() - 120).permute(0, 3, 1, 2) / 60
    model.neck.forward = lambda latent, ids_restore: model.head.construct_target(inputs)
    for shown, image in zip(reconstruct(model, images), images):
        np.testing.assert_allclose(shown.scales[0].prediction, image / 255, atol=1e-4)
        np.testing.assert_allclose(shown.image, image / 255, atol=1e-6)


def test_files_that_are_no_pictures_are_left_out_with_the_reason(tmp_path):
    for name, value in (('a', 10), ('c', 30)):
        Image.new('RGB', (8, 8), (value, 0, 0)).save(tmp_path / f'{name}.png')
    (tmp_path / 'b.png').write_bytes(b'nothing')
    pixels, rows, problems = read_readable([tmp_path / f'{name}.png' for name in 'abc'], (4, 6))
    assert (pixels.shape, pixels[:, 0, 0, 0].tolist(), rows) == ((2, 4, 6, 3), [10, 30], [0, 2])
    assert list(problems) == [1]
    assert 'b.png is not a readable picture' in problems[1]
    assert read_readable([tmp_path / 'b.png'], (4, 6), 5)[0].shape == (0, 4, 6, 5)


def test_pictures_of_more_than_eight_bits_are_brightened_to_their_range():
    stored = pictures(8, 8)
    np.testing.assert_array_equal(visible(stored), stored)
    levels = np.linspace(0, 10, 1001, dtype=np.float32).reshape(1, 7, 143, 1)
    shown = visible(levels)
    assert (shown.dtype, shown.shape) == (np.uint8, (1, 7, 143, 3))
    assert shown[0, -1, -1, 0] == 255  # the brightest half percent is white
    assert shown.flatten()[3 * 500] == int(255 * 5 / 9.95)
    assert (visible(np.zeros((1, 4, 4, 1), np.float32)) == 0).all()


def test_a_cut_is_in_the_middle_and_no_value_leaves_the_scale(tmp_path):
    array = np.zeros((20, 40, 5), np.float32)
    array[:, 20:] = 1
    np.save(tmp_path / 'a.npy', array)
    found = read_images([tmp_path / 'a.npy'], (10, 10), 5)[0]  # half of the width, about the edge; cubic overshoots
    assert (found.min(), found.max()) == (0, 255)
    np.testing.assert_allclose(found[..., :5, 0], 255 - found[:, ::-1, 0][:, :5], atol=1e-3)


def test_strokes_are_as_long_as_the_narrow_side_and_turn_against_the_clock():
    ends, _ = strokes(np.ones((2, 4, 2)), 80, 20)  # cells of 20 × 10; bins about 45° and 135°
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    np.testing.assert_allclose(lengths, 9.2)
    right, down = (ends[:, 1] - ends[:, 0]).T
    np.testing.assert_allclose(right[::2], -down[::2])  # up to the right
    np.testing.assert_allclose(right[1::2], down[1::2])
