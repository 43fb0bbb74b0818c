import math

import pytest
import torch
from torchvision.transforms import functional as tv

from mm_graft.models.data_preprocessors import photometric as ours

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


@pytest.fixture
def images():
    return torch.rand(4, 3, 9, 7)


def only(images, **strength):
    """One operation of the jitter with the one strength given; the factor is an end of its range or between."""
    return ours.color_jitter(images, **dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0) | strength)


def fixed(monkeypatch, *values):
    """Let the draws be these, in order."""
    remaining = list(values)
    monkeypatch.setattr(ours, 'uniform', lambda count, low, high, like: like.new_full((count, 1, 1, 1),
                                                                                       remaining.pop(0)))


def test_no_strength_changes_nothing(images):
    torch.testing.assert_close(only(images), images, atol=2e-3, rtol=0)  # NTSC's matrix has three digits


@pytest.mark.parametrize('factor', [0.6, 1.0, 1.4])
@pytest.mark.parametrize(('place', 'name'), enumerate(('brightness', 'contrast', 'saturation')))
def test_blends_are_torchvisions(monkeypatch, images, factor, place, name):
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[place] = factor
    fixed(monkeypatch, *factors)
    expected = torch.stack([getattr(tv, f'adjust_{name}')(image, factor) for image in images])
    # torchvision's luma has four digits; hue by 0 costs NTSC's three
    torch.testing.assert_close(only(images), expected, atol=3e-3, rtol=0)


def test_grey_is_torchvisions_and_keeps_the_channels(images):
    torch.testing.assert_close(ours.gray(images), tv.rgb_to_grayscale(images, 3), atol=2e-4, rtol=0)
    single = images[:, :1]
    assert ours.gray(single) is single


def test_one_channel_is_jittered_without_color():
    images = torch.rand(3, 1, 4, 4)
    assert only(images, saturation=0.9, hue=0.5).equal(only(images))
    assert not only(images, brightness=0.5).equal(images)


def test_hue_keeps_luma_where_nothing_is_cut(images):
    images = 0.5 + (images - 0.5) / 8
    turned = ours.turn_hue(images, torch.tensor([0.5, -1.0, 2.0, math.pi]))
    torch.testing.assert_close((turned * LUMA).sum(1), (images * LUMA).sum(1), atol=1e-4, rtol=0)
    assert not torch.allclose(turned, images, atol=1e-3)


def test_a_full_turn_and_grey_images_stay(images):
    torch.testing.assert_close(ours.turn_hue(images, torch.full((4, ), 2 * math.pi)), images, atol=1e-4, rtol=0)
    gray = ours.gray(images).contiguous()
    torch.testing.assert_close(ours.turn_hue(gray, torch.tensor([0.5, -1.0, 2.0, math.pi])), gray, atol=2e-3, rtol=0)


def test_turning_forth_and_back_is_nothing(images):
    images, angle = 0.5 + (images - 0.5) / 8, torch.tensor([0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(ours.turn_hue(ours.turn_hue(images, angle), -angle), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize('sigma', [0.3, 1.0, 2.0])
def test_blur_is_torchvisions(sigma):
    images = torch.rand(2, 3, 16, 12)
    size = 2 * max(1, round(2 * sigma)) + 1
    torch.testing.assert_close(ours.gaussian_blur(images, torch.full((2, ), sigma), sigma),
                               tv.gaussian_blur(images, [size, size], [sigma, sigma]), atol=1e-5, rtol=0)


def test_blur_keeps_constant_images_and_each_image_has_its_sigma():
    constant = torch.tensor([0.2, 0.7]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    torch.testing.assert_close(ours.gaussian_blur(constant, torch.tensor([0.5, 2.0]), 2.0), constant.contiguous())
    image = torch.rand(1, 3, 16, 16).repeat(2, 1, 1, 1)
    weak, strong = ours.gaussian_blur(image, torch.tensor([0.1, 2.0]), 2.0)
    torch.testing.assert_close(weak, image[0], atol=1e-5, rtol=0)
    assert strong.std() < 0.6 * image.std()


def test_blur_of_an_image_smaller_than_its_kernel_works():
    assert ours.gaussian_blur(torch.rand(1, 1, 3, 3), torch.tensor([5.0]), 5.0).shape == (1, 1, 3, 3)


def test_solarize_is_torchvisions(images):
    assert ours.solarize(images, 0.5).equal(tv.solarize(images, 0.5))
    assert not ours.solarize(images, 0.5).equal(ours.solarize(images, 0.9))


def test_results_stay_in_range(images):
    for _ in range(10):
        result = only(images, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)
        assert result.min() >= 0
        assert result.max() <= 1


def test_each_strength_changes_the_result(images):
    results = []
    for strength in ({}, *({name: 0.5} for name in ('brightness', 'contrast', 'saturation', 'hue'))):
        torch.manual_seed(0)
        results.append(only(images, **strength))
    assert not any(left.equal(right) for i, left in enumerate(results) for right in results[:i])


def test_numbers_are_drawn_per_image_and_uniformly(images):
    numbers = ours.uniform(20000, -1.0, 3.0, images)
    assert numbers.shape == (20000, 1, 1, 1)
    assert numbers.dtype == images.dtype
    assert (numbers.min() >= -1, numbers.max() <= 3) == (True, True)
    assert numbers.mean().item() == pytest.approx(1, abs=0.05)
    assert numbers.var().item() == pytest.approx(16 / 12, abs=0.05)


def test_some_images_are_changed_and_the_others_keep_their_exact_values():
    images, changed = torch.zeros(20000, 1, 1, 1), torch.ones(20000, 1, 1, 1)
    assert ours.apply_to_some(images, changed, 0.3).mean().item() == pytest.approx(0.3, abs=0.02)
    assert ours.apply_to_some(images, changed, 0.0).equal(images)
    assert ours.apply_to_some(images, changed, 1.0).equal(changed)


def test_what_color_is_exists_for_three_channels_alone():
    images = torch.rand(2, 5, 6, 6)
    torch.testing.assert_close(ours.gray(images), images.mean(1, keepdim=True).expand_as(images))
    torch.testing.assert_close(only(images, saturation=0.9, hue=0.4), images)
    assert not torch.allclose(only(images, brightness=0.9), images)
