import numpy as np
import pytest

from mm_graft.analysis.gallery import draw_gallery, nearest_images, tiled

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
    figure = draw_gallery(images, [3, 2], {'before': np.array([[2, 1], [3, 1]]), 'after': np.array([[0, 1], [1, 0]])})
    shown = {axis.get_title(): axis.get_images()[0].get_array()[::3, ::3, 0].tolist() for axis in figure.axes}
    assert shown == {'image': [[180], [120]], 'nearest, before': [[120, 60], [180, 60]],
                     'nearest, after': [[0, 60], [60, 0]]}
    assert list(shown) == ['image', 'nearest, before', 'nearest, after']


@pytest.mark.parametrize(('kind', 'white'), [(np.uint8, 255), (np.float32, 1)])
def test_tiles_stand_in_rows_and_columns_with_white_between(kind, white):
    pictures = np.arange(2 * 3 * 2 * 1 * 3).reshape(2, 3, 2, 1, 3).astype(kind)
    whole = tiled(pictures)
    assert (whole.shape, whole.dtype) == ((5, 5, 3), kind)
    for row in range(2):
        for column in range(3):
            np.testing.assert_array_equal(whole[3 * row:3 * row + 2, 2 * column:2 * column + 1], pictures[row, column])
    assert (whole[2] == white).all()
    assert (whole[:, 1::2] == white).all()
    assert tiled(np.zeros((2, 1, 24, 24, 3), kind)).shape == (50, 24, 3)
