import math

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.models.data_preprocessors import photometric
from mm_graft.models.data_preprocessors.two_views import crop_and_flip, crop_boxes

PLAIN = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter_probability=0.0, gray_probability=0.0,
             blur_probability=(0.0, 0.0), solarize_probability=(0.0, 0.0), flip_probability=0.0)
WHOLE = torch.tensor([[0.5, 0.5, 1.0, 1.0]])


def build(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **settings):
    return MODELS.build(dict(type='mm_graft.TwoViewPreprocessor', mean=list(mean), std=list(std), **settings))


@pytest.fixture
def images():
    return torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)


def views(preprocessor, images):
    return preprocessor({'inputs': images, 'data_samples': None}, training=True)['inputs']


def test_with_everything_off_both_views_are_the_image(images):
    for view in views(build(**PLAIN), images):
        torch.testing.assert_close(view, images.float(), atol=1e-3, rtol=0)


def test_two_views_are_made_in_training_and_one_batch_in_testing(images):
    preprocessor = build(mean=(1, 2, 3), std=(4, 5, 6))
    assert [view.shape for view in views(preprocessor, images)] == [images.shape] * 2
    tested = preprocessor({'inputs': images, 'data_samples': None})['inputs']
    by_hand = (images.float() - torch.tensor([1., 2, 3]).view(3, 1, 1)) / torch.tensor([4., 5, 6]).view(3, 1, 1)
    torch.testing.assert_close(tested, by_hand)


def test_views_are_normalized_with_mean_and_deviation(images):
    view = views(build(mean=(10, 20, 30), std=(2, 4, 5), **PLAIN), images)[0]
    by_hand = (images.float() - torch.tensor([10., 20, 30]).view(3, 1, 1)) / torch.tensor([2., 4, 5]).view(3, 1, 1)
    torch.testing.assert_close(view, by_hand, atol=1e-3, rtol=0)


def test_channels_are_exchanged_if_asked(images):
    torch.testing.assert_close(views(build(to_rgb=True, **PLAIN), images)[0], images.flip(1).float(), atol=1e-3, rtol=0)


def test_the_same_seed_gives_the_same_views_and_they_differ_from_each_other(images):
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(views(build(), images))
    assert results[0][0].equal(results[1][0])
    assert results[0][1].equal(results[1][1])
    assert not results[0][0].equal(results[2][0])
    assert not results[0][0].equal(results[0][1])


@pytest.mark.parametrize('setting', [
    dict(size=(8, 8)), dict(scale=(0.1, 0.2)), dict(ratio=(2.0, 3.0), scale=(0.3, 0.3)),
    dict(jitter_probability=1.0), dict(jitter_probability=1.0, jitter=(0.9, 0.0, 0.0, 0.0)),
    dict(gray_probability=1.0), dict(blur_probability=(1.0, 0.0)), dict(solarize_probability=(1.0, 0.0)),
    dict(blur_probability=(1.0, 0.0), blur_sigma=(3.0, 4.0)), dict(flip_probability=1.0)], ids=str)
def test_each_setting_changes_the_first_view(images, setting):
    results = []
    for settings in (PLAIN, PLAIN | {key: value for key, value in setting.items() if 'probability' in key},
                     PLAIN | setting):
        torch.manual_seed(0)
        results.append(views(build(**settings), images)[0])
    assert results[2].shape != images.shape or not torch.allclose(results[2], results[0], atol=1e-2)
    if len(setting) == 2 and 'probability' in next(iter(setting)):
        assert not torch.allclose(results[2], results[1], atol=1e-2)


@pytest.mark.parametrize('ratio', [0.5, 1.5, 2.0])
def test_a_view_is_a_crop_of_the_area_and_the_ratio_asked_for(ratio):
    """A picture whose two channels say how far to the right and how far down a pixel is."""
    place = torch.arange(64.).expand(16, 64, 64)
    image = torch.stack([place, place.transpose(1, 2), place], 1)
    view = views(build(**PLAIN | dict(scale=(0.2, 0.2), ratio=(ratio, ratio), size=(32, 32))), image)[0]
    across, down = (view[:, channel].flatten(1) for channel in (0, 1))
    width, height = (values.amax(1) - values.amin(1) for values in (across, down))
    torch.testing.assert_close(width, torch.full((16, ), 64 * (0.2 * ratio)**0.5), atol=0, rtol=0.05)
    torch.testing.assert_close(height, torch.full((16, ), 64 * (0.2 / ratio)**0.5), atol=0, rtol=0.05)


@pytest.mark.parametrize('name', ['blur_probability', 'solarize_probability'])
def test_the_second_view_has_probabilities_of_its_own(images, name):
    first, second = views(build(**PLAIN | {name: (0.0, 1.0)}), images)
    torch.testing.assert_close(first, images.float(), atol=1e-3, rtol=0)
    assert not torch.allclose(second, first, atol=1e-2)


def test_the_kernel_of_the_blur_reaches_as_far_as_the_largest_sigma_asks(images, monkeypatch):
    seen = []
    monkeypatch.setattr(photometric, 'gaussian_blur', lambda pixels, sigma, largest: seen.append(
        (sigma.min() >= 0.5, sigma.max() <= 3.0, largest)) or pixels)
    views(build(**PLAIN | dict(blur_probability=(1.0, 0.0), blur_sigma=(0.5, 3.0))), images)
    assert seen == [(True, True, 3.0)]


def test_grey_comes_before_blur_and_blur_before_solarizing(images):
    settings = dict(jitter_probability=1.0, jitter=(0.0, 0.0, 0.0, 0.0), gray_probability=1.0,
                    blur_probability=(1.0, 1.0), blur_sigma=(1.5, 1.5), solarize_probability=(1.0, 1.0))
    pixels = photometric.color_jitter(images / 255, 0.0, 0.0, 0.0, 0.0)
    blurred = photometric.gaussian_blur(photometric.gray(pixels), torch.full((6, ), 1.5), 1.5)
    for view in views(build(**PLAIN | settings), images):
        torch.testing.assert_close(view, 255 * photometric.solarize(blurred, 0.5), atol=0.5, rtol=0)


def test_grey_images_of_one_channel_are_taken():
    preprocessor = build(mean=(0, ), std=(1, ), gray_probability=1.0)
    assert [view.shape for view in views(preprocessor, torch.zeros(2, 1, 8, 8))] == [(2, 1, 8, 8)] * 2


def test_views_need_no_gradient(images):
    assert not views(build(), images.float().requires_grad_(True))[0].requires_grad


def test_the_crop_of_the_whole_image_is_the_image_and_flipping_mirrors_it():
    image = torch.rand(1, 3, 8, 6)
    kept = crop_and_flip(image, WHOLE, torch.tensor([False]), (8, 6))
    mirrored = crop_and_flip(image, WHOLE, torch.tensor([True]), (8, 6))
    torch.testing.assert_close(kept, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored, image.flip(3), atol=1e-5, rtol=0)


def test_a_crop_is_the_part_of_the_image_that_its_box_says():
    image = torch.rand(1, 3, 8, 8)
    box = torch.tensor([[0.75, 0.25, 0.5, 0.5]])  # the right upper quarter
    torch.testing.assert_close(crop_and_flip(image, box, torch.tensor([False]), (4, 4)), image[:, :, :4, 4:],
                               atol=1e-5, rtol=0)
    torch.testing.assert_close(crop_and_flip(image, box, torch.tensor([True]), (4, 4)), image[:, :, :4, 4:].flip(3),
                               atol=1e-5, rtol=0)


def test_boxes_lie_in_the_image_and_have_the_area_and_ratio_asked_for():
    like = torch.zeros(1, dtype=torch.float64)
    boxes = crop_boxes(20000, (0.2, 0.6), (0.75, 4 / 3), like)
    x, y, width, height = boxes.unbind(1)
    assert boxes.dtype == like.dtype
    for center, extent in ((x, width), (y, height)):
        assert ((center - extent / 2).min() >= -1e-12, (center + extent / 2).max() <= 1 + 1e-12) == (True, True)
    area, aspect = width * height, (width / height).log()
    assert (area.min().item(), area.max().item()) == pytest.approx((0.2, 0.6), abs=1e-3)
    assert area.mean().item() == pytest.approx(0.4, abs=5e-3)
    assert aspect.abs().max().item() == pytest.approx(math.log(4 / 3), abs=1e-3)
    assert aspect.mean().item() == pytest.approx(0, abs=5e-3)
    assert x.mean().item() == pytest.approx(0.5, abs=5e-3)


def test_about_as_many_images_are_mirrored_as_asked():
    images = torch.zeros(4000, 1, 2, 2)
    images[..., 0] = 255
    view = views(build(mean=(0, ), std=(1, ), **PLAIN | dict(flip_probability=0.3)), images)[0]
    assert (view[:, 0, 0, 1] > 128).float().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(('setting', 'message'), [
    (dict(flip_probability=1.5), r'probability 1\.5 is outside \[0, 1\]'),
    (dict(blur_probability=(0.5, -0.1)), r'probability -0\.1'),
    (dict(solarize_probability=(2.0, 0.0)), 'probability 2'),
    (dict(scale=(0.0, 1.0)), r'scale=\(0\.0, 1\.0\).*0 < from'), (dict(scale=(0.5, 0.3)), 'from ≤ to'),
    (dict(scale=(0.5, 1.3)), 'to ≤ 1')])
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        build(**setting)
