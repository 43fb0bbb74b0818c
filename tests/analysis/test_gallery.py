import numpy as np
import pytest

from mm_graft.analysis.gallery import draw_gallery, nearest_images

FEATURES = np.array([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])


def test_neighbors_are_by_angle_and_never_the_query():
    assert nearest_images(FEATURES, [0, 2], 3).tolist() == [[1, 2, 3], [1, 0, 3]]


def test_lengths_do_not_matter():
    np.testing.assert_array_equal(nearest_images(FEATURES * [[1], [5], [9], [2]], [0], 3),
                                  nearest_images(FEATURES, [0], 3))


def test_more_neighbors_than_images_are_refused():
    with pytest.raises(ValueError, match='4 images have no 4 neighbors each'):
        nearest_images(FEATURES, [0], 4)


def test_the_gallery_shows_query_and_neighbors_of_each_encoder_in_their_order():
    images = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (0, 60, 120, 180)])
    figure = draw_gallery(images, [3], {'before': np.array([[2, 1]]), 'after': np.array([[0, 1]])})
    shown = [axis.get_images()[0].get_array()[0, 0, 0] for axis in figure.axes if axis.get_images()]
    assert shown == [180, 120, 60, 0, 60]
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] \
        == ['image', 'nearest, before', 'nearest, after']
