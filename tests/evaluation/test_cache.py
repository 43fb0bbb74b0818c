import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from torch import nn

from mm_graft.evaluation.cache import FeatureCache, cache_key, sha256_of_dataset, sha256_of_file
from mm_graft.evaluation.readable import UnreadableImageError, make_loader


class MeanColour(nn.Module):
    """A "backbone" whose features are the mean colour; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return images.mean((2, 3)) * self.scale


def build(folder):
    return DATASETS.build(dict(type='CustomDataset', data_root=str(folder), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='PackInputs')]))


@pytest.fixture
def folder(tmp_path):
    for label, name in enumerate(('a', 'b')):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for index in range(3):
            value = np.full((8, 8, 3), 10 * label + index, np.uint8)
            cv2.imwrite(str(tmp_path / 'images' / name / f'{index}.png'), value)
    return tmp_path / 'images'


def extract(cache, folder, **changes):
    return cache.extract('key', MeanColour(), build(folder), 'avg', make_loader(2, 0), **changes)


def test_features_come_back_as_they_were_extracted(folder, tmp_path):
    cache = FeatureCache(tmp_path / 'cache')
    assert cache.load('key') is None
    fresh = extract(cache, folder)
    kept = cache.load('key')
    assert fresh.features[:, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert fresh.labels.tolist() == kept.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (kept.features == fresh.features).all()
    assert kept.from_cache
    assert not fresh.from_cache


def test_corrupt_images_are_left_out_and_counted_also_from_the_cache(folder, tmp_path):
    (folder / 'a' / '1.png').write_bytes(b'broken')
    cache = FeatureCache(tmp_path / 'cache')
    for features in (extract(cache, folder), cache.load('key')):
        assert features.labels.tolist() == [0, 0, 1, 1, 1]
        assert features.indices.tolist() == [0, 2, 3, 4, 5]
        assert [entry.index for entry in features.unreadable] == [1]


def test_interrupted_extraction_is_never_taken_for_a_result(folder, tmp_path):
    (folder / 'b' / '2.png').write_bytes(b'broken')
    cache = FeatureCache(tmp_path / 'cache')
    with pytest.raises(UnreadableImageError):
        extract(cache, folder, strict=True)
    assert (tmp_path / 'cache' / 'key.part').is_dir()
    assert cache.load('key') is None
    assert len(extract(cache, folder).labels) == 5


def test_set_without_a_readable_image_is_an_error(folder, tmp_path):
    for path in folder.rglob('*.png'):
        path.write_bytes(b'broken')
    with pytest.raises(ValueError, match='none of 6 images could be read'):
        extract(FeatureCache(tmp_path / 'cache'), folder)


def test_key_of_the_data_follows_names_labels_and_content(folder):
    before = sha256_of_dataset(build(folder))
    assert sha256_of_dataset(build(folder)) == before
    cv2.imwrite(str(folder / 'a' / '0.png'), np.full((9, 9, 3), 77, np.uint8))
    assert sha256_of_dataset(build(folder)) != before


def test_key_follows_every_part():
    assert cache_key(a=1, b='x') == cache_key(b='x', a=1)
    assert len({cache_key(a=1, b='x'), cache_key(a=2, b='x'), cache_key(a=1, b='y')}) == 3


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / 'f').write_bytes(b'abc')
    assert sha256_of_file(tmp_path / 'f').startswith('ba7816bf8f01cfea')
