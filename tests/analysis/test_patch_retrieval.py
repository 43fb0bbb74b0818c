import numpy as np
import pytest
import torch
from PIL import Image

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


def test_the_retrieval_becomes_a_png(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = nearest_patches(torch.randn(3, 16, 8), 0, 5, 4)
    draw_neighbors(images, (4, 4), (0, 5), found, tmp_path / 'a.png')
    assert Image.open(tmp_path / 'a.png').format == 'PNG'
