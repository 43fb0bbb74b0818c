import random

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope

from mm_graft.evaluation.reading import BadImage, IndexedImages, read_images
from mm_graft.random_state import seed_host_generators


@pytest.fixture
def dataset(tmp_path):
    init_default_scope('mmpretrain')
    (tmp_path / 'a').mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'a' / f'{index}.jpg'), noise)
    (tmp_path / 'a' / '1.jpg').write_bytes(b'no image')
    whole = (tmp_path / 'a' / '2.jpg').read_bytes()
    (tmp_path / 'a' / '2.jpg').write_bytes(whole[:len(whole) // 2])
    return DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[
        dict(type='mm_graft.LoadImageFromFile'), dict(type='PackInputs')]))


@pytest.mark.parametrize('workers', [0, 2])
def test_bad_images_are_named_and_the_others_stay_with_their_indices(dataset, workers):
    first, second = read_images(dataset, [3, 2, 1, 0], 3, workers)
    assert (first.indices.tolist(), second.indices.tolist()) == ([3], [0])
    assert [(image.index, image.name[-5:]) for image in first.bad] == [(2, '2.jpg'), (1, '1.jpg')]
    assert 'no known image format' in first.bad[1].reason
    assert second.bad == []
    for batch, index in ((first, 3), (second, 0)):
        (image, ), (sample, ) = batch.inputs, batch.data_samples
        assert (image == dataset[index]['inputs']).all()
        assert sample.img_path.endswith(f'{index}.jpg')


def test_a_batch_without_any_usable_image_comes_and_is_empty(dataset):
    batch, = read_images(dataset, [1, 2], 2, 0)
    assert (batch.inputs, batch.data_samples, len(batch.indices), len(batch.bad)) == ([], [], 0, 2)


def test_strict_stops_at_the_first_bad_image_and_names_it(dataset):
    with pytest.raises(ValueError, match=r'1\.jpg cannot be used: no known image format'):
        IndexedImages(dataset, [0, 1], strict=True)[1]


def test_whatever_fails_on_an_image_is_a_reason_and_names_it():
    class Broken(list):
        def get_data_info(self, index):
            return {}

        def __getitem__(self, index):
            raise KeyError

    assert IndexedImages(Broken([0]), [0])[0] == (0, BadImage(0, '0', 'KeyError'))
    with pytest.raises(ValueError, match='image 0 cannot be used: KeyError'):
        IndexedImages(Broken([0]), [0], strict=True)[0]


class Drawn(list):
    """Each item is what the three generators of the host draw."""

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_what_an_image_draws_follows_from_the_numbers_and_its_index_alone():
    images = Drawn(range(4))
    first, second = IndexedImages(images, [2, 0], draws=(1, 5)), IndexedImages(images, [0, 2], draws=(1, 5))
    assert [first[0], first[1]] == [second[1], second[0]]
    assert first[0][1] != first[1][1]
    assert first[0] != IndexedImages(images, [2], draws=(1, 6))[0]
    assert IndexedImages(images, [2])[0] != IndexedImages(images, [2])[0]
    seed_host_generators(7)
    expected = images[0]
    seed_host_generators(7)
    first[0]
    assert images[0] == expected  # whoever draws next does not notice
