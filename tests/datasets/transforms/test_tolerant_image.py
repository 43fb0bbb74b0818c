import logging
import random
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader

from mm_graft.datasets.transforms.tolerant_image import TolerantLoadImageFromFile, image_damage

LIMIT = 2**26


def encoded(suffix):
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (120, 90))
    return cv2.imencode(suffix, pixels)[1].tobytes()


def png_of(width, height):
    """A few bytes that promise many pixels."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b'')


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp'])
def test_whole_images_are_fine(suffix):
    assert image_damage(encoded(suffix), LIMIT) is None
    assert image_damage(encoded(suffix) + bytes(100), LIMIT) is None


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 0.9, 0.99])
def test_cut_images_are_seen(suffix, share):
    content = encoded(suffix)
    assert image_damage(content[:int(share * len(content))], LIMIT)


@pytest.mark.parametrize('size', [(100000, 100000), (30000, 30000), (8193, 8192)])
def test_images_that_would_fill_the_memory_are_not_decoded(size):
    assert 'DecompressionBomb' in (found := image_damage(png_of(*size), LIMIT)) or 'pixels are more than' in found


def test_the_limit_counts_pixels():
    assert image_damage(encoded('.png'), 120 * 90) is None
    assert '120 x 90 pixels are more than max_pixels=10799' in image_damage(encoded('.png'), 120 * 90 - 1)


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        (tmp_path / f'{index:02}.jpg').write_bytes(encoded('.jpg'))
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging.Logger, 'log', lambda self, level, text, *args: found.append(text))
    monkeypatch.setattr('mm_graft.datasets.transforms.tolerant_image.print_log', lambda text, **_: found.append(text))
    return found


def dataset(folder, **kwargs):
    return CustomDataset(data_root=str(folder), with_label=False,
                         pipeline=[dict(type='mm_graft.TolerantLoadImageFromFile', **kwargs)])


@pytest.mark.parametrize('options', [{}, {'to_float32': True}, {'color_type': 'grayscale'},
                                     {'imdecode_backend': 'pillow'}])
def test_a_good_image_is_what_the_host_loads(folder, options):
    host = TRANSFORMS.build(dict(type='LoadImageFromFile', **options))
    expected = host({'img_path': str(folder / '00.jpg')})
    actual = TolerantLoadImageFromFile(**options)({'img_path': str(folder / '00.jpg')})
    assert expected['img'].dtype == actual['img'].dtype
    assert expected.keys() == actual.keys()
    assert np.array_equal(expected['img'], actual['img'])


@pytest.mark.parametrize('fault', ['missing', 'empty', 'cut', 'text', 'bomb'])
def test_a_bad_image_is_named_counted_and_replaced(folder, warnings, fault):
    data = dataset(folder)
    data.full_init()
    path = folder / '03.jpg'
    if fault == 'missing':
        path.unlink()
    else:
        path.write_bytes({'empty': b'', 'cut': encoded('.jpg')[:500], 'text': b'no image',
                          'bomb': png_of(50000, 50000)}[fault])
    sample = data[3]
    assert sample['img'].shape == (90, 120, 3)
    assert sample['img_path'] != str(path)
    assert [text for text in warnings if str(path) in text and 'bad image 1 of at most 100' in text]


def test_too_many_are_an_error_over_all_processes(folder, warnings):
    data = dataset(folder, max_bad=3)
    data.full_init()
    for index in range(6):
        (folder / f'{index:02}.jpg').write_bytes(b'')
    loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=list)
    with pytest.raises(RuntimeError, match=r'bad image [45] of at most 3; repair the data, or raise max_bad'):
        list(loader)


def test_damaged_bytes_end_in_an_image_or_a_reason(folder, warnings):
    rng, transform, path = random.Random(0), TolerantLoadImageFromFile(max_bad=10**6), folder / 'victim'
    for _ in range(150):
        content = bytearray(encoded(rng.choice(['.jpg', '.png', '.bmp'])))
        for _ in range(rng.choice((1, 5, 50))):
            content[rng.randrange(min(len(content), rng.choice((40, 10**6))))] = rng.randrange(256)
        path.write_bytes(content[:rng.randrange(len(content))] if rng.random() < 0.3 else content)
        result = transform({'img_path': str(path)})
        assert result is None or result['img'].ndim == 3
    assert 10 < int(transform.counts.sum()) < 150
    assert isinstance(transform.counts, torch.Tensor)


@pytest.mark.parametrize('limits', [{'max_bad': -1}, {'max_pixels': 0}])
def test_limits_are_checked(limits):
    with pytest.raises(ValueError, match='are limits'):
        TolerantLoadImageFromFile(**limits)
