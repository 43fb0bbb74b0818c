import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mm_graft.evaluation.readable import (
    ReadableImages,
    Unreadable,
    UnreadableImageError,
    collate_readable,
    is_truncated_jpeg,
)


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / 'a').mkdir()
    for index in range(4):
        noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'a' / f'{index}.jpg'), noise)
    (tmp_path / 'a' / '1.jpg').write_bytes(b'no image')
    whole = (tmp_path / 'a' / '2.jpg').read_bytes()
    (tmp_path / 'a' / '2.jpg').write_bytes(whole[:len(whole) // 2])
    return DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='PackInputs')]))


def test_corrupt_and_truncated_images_are_named_and_the_others_stay(dataset):
    images = ReadableImages(dataset, [3, 2, 1, 0])
    batch = collate_readable([images[position] for position in range(len(images))])
    assert batch['indices'].tolist() == [3, 0]
    assert len(batch['batch']['inputs']) == len(batch['batch']['data_samples']) == 2
    assert [entry.index for entry in batch['unreadable']] == [2, 1]
    assert batch['unreadable'][0].name.endswith('2.jpg')
    assert 'ends early' in batch['unreadable'][0].reason


def test_strict_stops_at_the_first_corrupt_image_and_names_it(dataset):
    with pytest.raises(UnreadableImageError, match=r'1\.jpg'):
        ReadableImages(dataset, [0, 1], strict=True)[1]


def test_only_a_jpeg_without_its_end_is_truncated(dataset, tmp_path):
    assert not is_truncated_jpeg(tmp_path / 'a' / '0.jpg')
    assert is_truncated_jpeg(tmp_path / 'a' / '2.jpg')
    assert not is_truncated_jpeg(tmp_path / 'a' / 'missing.png')


def test_batch_without_any_readable_image_is_empty():
    batch = collate_readable([(4, Unreadable(4, 'x.png', 'broken'))])
    assert batch['batch']['inputs'] == []
    assert batch['indices'].numel() == 0
