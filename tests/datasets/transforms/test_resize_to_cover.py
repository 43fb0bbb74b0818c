import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, init_default_scope

from mm_graft.datasets.transforms.resize_to_cover import ResizeToCover

PIXELS = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize(('shape', 'scale', 'expected'), [
    ((90, 120), (30, 30), (30, 40)), ((120, 90), (30, 30), (40, 30)), ((90, 120), (30, 60), (45, 60)),
    ((90, 120), (60, 30), (60, 80)), ((100, 300), (50, 100), (50, 150)), ((300, 100), (50, 100), (300, 100)),
    ((90, 120), (90, 120), (90, 120)), ((7, 3), (70, 30), (70, 30)), ((333, 500), (256, 256), (256, 384))])
def test_both_sides_are_covered_and_one_exactly(shape, scale, expected):
    image = np.zeros((*shape, 3), np.uint8)
    results = ResizeToCover(scale)({'img': image})
    assert results['img'].shape[:2] == results['img_shape'] == expected


@pytest.mark.parametrize('image', [PIXELS, PIXELS.transpose(1, 0, 2), PIXELS[..., 0]])
@pytest.mark.parametrize('options', [{}, {'backend': 'pillow', 'interpolation': 'bicubic'}])
def test_for_a_square_it_is_the_hosts(image, options):
    init_default_scope('mmpretrain')
    host = TRANSFORMS.build(dict(type='ResizeEdge', scale=37, edge='short', **options))
    ours = TRANSFORMS.build(dict(type='mm_graft.ResizeToCover', scale=(37, 37), **options))
    assert np.array_equal(ours({'img': image.copy()})['img'], host({'img': image.copy()})['img'])


def test_caches_that_depend_on_it_can_tell_settings_apart():
    assert repr(ResizeToCover((3, 4), 'pillow', 'bicubic')) == (
        "ResizeToCover(scale=(3, 4), backend='pillow', interpolation='bicubic')")
