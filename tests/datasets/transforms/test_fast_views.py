"""Each operation against PIL's on the same image, the whole pipeline against the host's in distribution."""

import random

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.stats import ks_2samp
from torchvision.transforms import RandomHorizontalFlip, RandomResizedCrop

from mm_graft.datasets.transforms import fast_views
from mm_graft.datasets.transforms.fast_views import crop_box
from tests.defaults import defaults
from tests.test_configs import ROOT


def photo(seed=0, height=75, width=100):
    """Smooth colors with grain, BGR."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8), (width, height),
                        interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + generator.normal(0, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def by_pil(function):
    """A function of PIL images as one of BGR arrays."""
    return lambda image: np.asarray(function(Image.fromarray(image[..., ::-1])))[..., ::-1]


OPERATIONS = {
    'brightness up': ('scale_brightness', 1.4, by_pil(lambda image: ImageEnhance.Brightness(image).enhance(1.4)), 1),
    'brightness down': ('scale_brightness', .6, by_pil(lambda image: ImageEnhance.Brightness(image).enhance(.6)), 1),
    'contrast up': ('scale_contrast', 1.4, by_pil(lambda image: ImageEnhance.Contrast(image).enhance(1.4)), 1),
    'contrast down': ('scale_contrast', .6, by_pil(lambda image: ImageEnhance.Contrast(image).enhance(.6)), 1),
    'saturation up': ('scale_saturation', 1.2, by_pil(lambda image: ImageEnhance.Color(image).enhance(1.2)), 2),
    'saturation down': ('scale_saturation', .8, by_pil(lambda image: ImageEnhance.Color(image).enhance(.8)), 2),
    'hue up': ('shift_hue', .1, lambda image: mmcv.adjust_hue(image, .1, backend='pillow'), 16),
    'hue down': ('shift_hue', -.1, lambda image: mmcv.adjust_hue(image, -.1, backend='pillow'), 16),
    'blur 0.5': ('blur', .5, by_pil(lambda image: image.filter(ImageFilter.GaussianBlur(.5))), 8),
    'blur 2': ('blur', 2., by_pil(lambda image: image.filter(ImageFilter.GaussianBlur(2.))), 5),
    'solarize': ('solarize', 128, by_pil(lambda image: ImageOps.solarize(image, 128)), 0),
}


@pytest.mark.parametrize('name', OPERATIONS)
def test_an_operation_does_what_pils_does(name):
    function, amount, reference, largest = OPERATIONS[name]
    image = photo()
    ours, theirs = getattr(fast_views, function)(image, amount), reference(image)
    assert ours.dtype == np.uint8
    difference = ours.astype(int) - theirs
    assert np.abs(difference).max() <= largest
    assert np.abs(difference).mean() < 1
    # statistics of each channel
    assert np.abs(difference.mean((0, 1))).max() < 0.6
    np.testing.assert_allclose(ours.std((0, 1)), theirs.std((0, 1)), rtol=0.01)


def test_grey_is_pils():
    image = photo()
    expected = np.asarray(Image.fromarray(image[..., ::-1]).convert('L'))
    for channel in range(3):
        assert np.abs(fast_views.gray(image)[..., channel].astype(int) - expected).max() <= 1


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(48, 64), (150, 130)])
def test_resizing_keeps_the_channels_statistics(interpolation, size):
    image = photo()
    ours = fast_views.resize(image, size, interpolation)
    theirs = mmcv.imresize(image, size[::-1], interpolation=interpolation, backend='pillow')
    assert ours.shape == theirs.shape == (*size, 3)
    difference = ours.astype(int) - theirs
    assert np.abs(difference.mean((0, 1))).max() < 0.5
    np.testing.assert_allclose(ours.std((0, 1)), theirs.std((0, 1)), rtol=0.03)


def test_a_hue_may_turn_all_the_way_round():
    image = photo()
    once = fast_views.shift_hue(image, 0.0)
    one, round_to_one = 1 / 255, 1 / 255 - 256 / 255
    np.testing.assert_array_equal(fast_views.shift_hue(image, one), fast_views.shift_hue(image, round_to_one))
    assert np.abs(once.astype(int) - image).max() <= 8  # 256 levels of saturation and hue


def test_solarizing_at_a_threshold():
    levels = np.array([[[0, 127, 128], [129, 200, 255]]], dtype=np.uint8)
    assert fast_views.solarize(levels).tolist() == [[[0, 127, 127], [126, 55, 0]]]
    assert fast_views.solarize(levels, 255).tolist() == [[[0, 127, 128], [129, 200, 0]]]


def test_boxes_have_the_hosts_distribution():
    host = TRANSFORMS.build(dict(type='RandomResizedCrop', scale=8))
    image = photo()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the host draws from it)
    ours = np.array([crop_box(75, 100, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)])
    theirs = np.array([host.rand_crop_params.__wrapped__(host, image) for _ in range(2000)])[:, [0, 1, 2, 3]]
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    assert (ours[:, 0] + ours[:, 2]).max() <= 75
    assert (ours[:, 1] + ours[:, 3]).max() <= 100


@pytest.mark.parametrize(('shape', 'expected'), [((10, 100), (0, 43, 10, 13)), ((100, 10), (43, 0, 13, 10))])
def test_an_image_that_no_box_fits_is_cropped_in_the_middle(shape, expected):
    assert crop_box(*shape, (1.0, 1.0), (3 / 4, 4 / 3)) == expected


def test_blur_reaches_three_sigma_and_no_further():
    image = np.zeros((9, 41, 3), np.uint8)
    image[:, 20] = 255
    touched = np.flatnonzero(fast_views.blur(image, 2.0)[4, :, 0])
    assert touched.tolist() == list(range(14, 27))


def test_of_an_image_of_one_pixel_the_box_is_all():
    random.seed(0)
    assert {crop_box(1, 1, (0.01, 0.1), (3 / 4, 4 / 3)) for _ in range(20)} == {(0, 0, 1, 1)}


def test_enlarging_follows_the_interpolation_and_shrinking_averages():
    edge = np.repeat(np.array([[50, 50, 200, 200]], np.uint8).T[..., None], 4, 1).repeat(3, 2)  # dark above light
    for interpolation, overshoots in (('bilinear', False), ('bicubic', True)):
        crop = fast_views.FastCrop(16, (1.0, 1.0), (1.0, 1.0), interpolation)
        for image in (fast_views.resize(edge, (16, 16), interpolation), crop({'img': edge})['img']):
            assert (image.max() > 200) == (image.min() < 50) == overshoots
        assert fast_views.resize(edge, (1, 1), interpolation).tolist() == [[[125] * 3]]
        np.testing.assert_array_equal(fast_views.resize(edge, (4, 4), interpolation), edge)
    np.testing.assert_array_equal(fast_views.FastCrop(16)({'img': edge[:1, :1]})['img'], np.full((16, 16, 3), 50))


def test_what_is_not_said_is_what_torchvision_and_moco_v3_do():
    crop, theirs = defaults(fast_views.FastCrop), defaults(RandomResizedCrop)
    assert crop['crop_ratio_range'] == theirs['scale']
    assert crop['aspect_ratio_range'] == pytest.approx(theirs['ratio'])
    assert crop['flip'] == defaults(RandomHorizontalFlip)['p']
    _, jitter, gray, blur, solarize, _ = Config.fromfile(ROOT / 'configs/_base_/imagenet_two_views.py').second_view
    parts = jitter.transforms[0]
    assert defaults(fast_views.FastPhotometric) == {
        'jitter': (parts.brightness, parts.contrast, parts.saturation, parts.hue), 'jitter_probability': jitter.prob,
        'gray_probability': gray.prob, 'blur_probability': 0, 'blur_sigma': blur.magnitude_range,
        'solarize_probability': 0, 'solarize_threshold': solarize.thr}


def pipelines(name):
    cfg = Config.fromfile(ROOT / f'configs/_base_/{name}.py')
    return [Compose([TRANSFORMS.build(step) for step in view]) for view in (cfg.first_view, cfg.second_view)]


def statistics(pipeline, number=150):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 (the host draws from it)
    views = [pipeline({'img': photo(index, 60, 80), 'img_shape': (60, 80)})['img'] for index in range(number)]
    pixels = np.stack([cv2.resize(view, (56, 56), interpolation=cv2.INTER_AREA) for view in views]).astype(float)
    saturation = pixels.max(-1) - pixels.min(-1)
    return [*pixels.mean((1, 2)).T, *pixels.std((1, 2)).T, saturation.mean((1, 2))]


@pytest.mark.parametrize('view', [0, 1])
def test_views_have_the_distribution_of_the_hosts(view):
    ours, theirs = (statistics(pipelines(name)[view]) for name in ('imagenet_two_views_fast', 'imagenet_two_views'))
    for own, other in zip(ours, theirs):
        assert ks_2samp(own, other).pvalue > 0.01


@pytest.mark.parametrize(('name', 'view'), [('imagenet_mae', 'img'), ('imagenet_paired_views', 0),
                                            ('imagenet_paired_views', 1)])
def test_whole_pipelines_have_the_distribution_of_those_with_pillow(name, view):
    found = []
    for suffix in ('_fast', ''):
        steps = Config.fromfile(ROOT / f'configs/_base_/{name}{suffix}.py').train_pipeline[1:-1]  # from image to image
        pipeline = Compose([TRANSFORMS.build(step) for step in steps])
        found.append(statistics(lambda info, run=pipeline: dict(img=image_of(run(info), view))))
    for own, other in zip(*found):
        assert ks_2samp(own, other).pvalue > 0.01


def image_of(results, view):
    return results['img'] if view == 'img' else results['img'][view]


def test_views_are_a_function_of_the_seed():
    pipeline = pipelines('imagenet_two_views_fast')[1]
    results = []
    for seed in (3, 3, 4):
        random.seed(seed)
        results.append(pipeline({'img': photo()})['img'])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    assert results[0].shape == (224, 224, 3)


@pytest.mark.parametrize('settings', [
    dict(jitter_probability=1.0), dict(gray_probability=1.0), dict(blur_probability=1.0),
    dict(solarize_probability=1.0), dict(jitter_probability=1.0, jitter=(0.4, 0., 0., 0.)),
    dict(blur_probability=1.0, blur_sigma=(3., 3.)), dict(solarize_probability=1.0, solarize_threshold=50)], ids=str)
def test_each_argument_changes_the_image(settings):
    off = dict(jitter_probability=0.0, gray_probability=0.0)
    results = []
    for extra in ({}, settings):
        random.seed(0)
        results.append(fast_views.FastPhotometric(**off | extra)({'img': photo()})['img'])
    np.testing.assert_array_equal(results[0], photo())
    assert (results[1] != results[0]).any()


PARTS = ('scale_brightness', 'scale_contrast', 'scale_saturation', 'shift_hue')


@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize(('draw', 'sign'), [(min, -1), (max, 1)])
def test_each_strength_of_the_jitter_is_that_of_its_own_part(part, draw, sign, monkeypatch):
    expected = getattr(fast_views, part)(photo(), sign * 0.3 + (part != 'shift_hue'))
    monkeypatch.setattr(random, 'uniform', lambda low, high: draw(low, high))
    for other in set(PARTS) - {part}:
        monkeypatch.setattr(fast_views, other, lambda image, amount: image)
    found = fast_views.jitter_colors(photo(), *(0.3 * (name == part) for name in PARTS))
    np.testing.assert_array_equal(found, expected)


def test_the_parts_of_the_jitter_come_in_any_order(monkeypatch):
    orders, called = set(), []
    for name in PARTS:
        monkeypatch.setattr(fast_views, name, lambda image, amount, name=name: called.append(name) or image)
    for seed in range(20):
        random.seed(seed)
        called.clear()
        fast_views.jitter_colors(photo(), 0.4, 0.4, 0.2, 0.1)
        orders.add(tuple(called))
    assert len(orders) > 10
    assert all(sorted(order) == sorted(PARTS) for order in orders)


def test_grey_comes_before_blur_and_blur_before_solarizing():
    transform = fast_views.FastPhotometric(
        jitter=(0.0, 0.0, 0.0, 0.0), jitter_probability=1.0, gray_probability=1.0, blur_probability=1.0,
        blur_sigma=(1.5, 1.5), solarize_probability=1.0, solarize_threshold=90)
    jittered = fast_views.jitter_colors(photo(), 0.0, 0.0, 0.0, 0.0)
    expected = fast_views.solarize(fast_views.blur(fast_views.gray(jittered), 1.5), 90)
    found = transform({'img': photo()})['img'].astype(int)
    assert np.abs(found - expected).mean() < 1  # the order of the jitter's parts rounds differently


def test_mirror_images_and_sizes():
    image = photo()
    whole = dict(scale=(75, 100), crop_ratio_range=(1.0, 1.0), aspect_ratio_range=(4 / 3, 4 / 3))
    np.testing.assert_array_equal(fast_views.FastCrop(**whole, flip=0.0)({'img': image})['img'], image)
    mirrored = fast_views.FastCrop(**whole, flip=1.0)({'img': image})
    np.testing.assert_array_equal(mirrored['img'], image[:, ::-1])
    assert mirrored['img_shape'] == (75, 100, 3)


@pytest.mark.parametrize(('build', 'message'), [
    (lambda: fast_views.FastCrop(8, flip=2), 'choose one in'),
    (lambda: fast_views.FastCrop(8, interpolation='area'), 'choose one of'),
    (lambda: fast_views.FastCrop(8, crop_ratio_range=(0, 1)), '0 < from'),
    (lambda: fast_views.FastCrop(8, aspect_ratio_range=(2, 1)), '0 < from'),
    (lambda: fast_views.FastPhotometric(blur_probability=-1), 'probability of blur'),
    (lambda: fast_views.FastPhotometric()({'img': photo()[..., 0]}), 'colors need')])
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize('size', [(8, 10), (60, 50)])
def test_many_channels_are_resized_as_each_of_them(size):
    image = np.random.default_rng(0).random((30, 40, 7), dtype=np.float32)
    found = fast_views.resize(image, size, 'bicubic')
    assert found.shape == (*size, 7)
    for channel in range(7):
        np.testing.assert_allclose(found[..., channel], fast_views.resize(image[..., channel], size, 'bicubic'),
                                   atol=1e-5)
