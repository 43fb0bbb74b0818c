import numpy as np
import pytest
import torch

from mm_graft.analysis.patch_retrieval import draw_neighbors, nearest_patches, patch_box


def test_neighbors_are_the_most_similar_patches_of_other_images_whatever_their_length():
    features = torch.eye(4).repeat(3, 1, 1)
    features[2, 1, 0] = 0.1
    features[1, 2] = torch.tensor([0.0, 5, 1, 0])
    found = nearest_patches(features, image=0, patch=1, k=3)
    assert list(zip(found.images, found.patches)) == [(1, 1), (2, 1), (1, 2)]
    np.testing.assert_allclose(found.similarities, [1, 1 / 1.01**0.5, 5 / 26**0.5], rtol=1e-6)


@pytest.mark.parametrize(('image', 'patch', 'k'), [(3, 0, 1), (0, 4, 1), (-1, 0, 1), (0, 0, 0), (0, 0, 9)])
def test_a_query_that_does_not_exist_or_too_many_neighbors_are_refused(image, patch, k):
    with pytest.raises(ValueError, match='choose'):
        nearest_patches(torch.randn(3, 4, 2), image, patch, k)


def test_a_patch_covers_its_square_of_pixels():
    assert patch_box(5, (2, 4), (32, 64)) == (slice(16, 32), slice(16, 32))
    assert patch_box(6, (2, 4), (32, 40)) == (slice(16, 32), slice(20, 30))


def test_the_query_is_framed_and_its_neighbors_stand_beside_it():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = nearest_patches(torch.randn(3, 16, 8), 0, 5, 4)
    axes = draw_neighbors(images, (4, 4), (0, 5), found).axes
    frame = axes[0].lines[0].get_xydata()
    assert (frame.min(0).tolist(), frame.max(0).tolist()) == ([8, 8], [16, 16])
    shown = [images[0], images[0, 8:16, 8:16], *(
        images[image][patch_box(patch, (4, 4), (32, 32))] for image, patch in zip(found.images, found.patches))]
    assert [axis.get_title() for axis in axes] == ['image', 'query', *(f'{value:.2f}' for value in found.similarities)]
    for axis, expected in zip(axes, shown, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), expected)
