import importlib.util
import io
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from mm_graft import channel_files
from mm_graft.channel_files import decode_channels, to_byte_range
from mm_graft.image_files import MAX_ASPECT, BadImageError

RNG = np.random.default_rng(0)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def encoded(ending, image):
    return cv2.imencode(ending, image)[1].tobytes()


def test_arrays_have_their_channels_last_or_first_where_that_axis_is_shortest():
    array = RNG.integers(0, 255, (6, 8, 5), dtype=np.uint8)
    np.testing.assert_array_equal(decode_channels(npy(array)), array)
    np.testing.assert_array_equal(decode_channels(npy(array.transpose(2, 0, 1))), array)
    np.testing.assert_array_equal(decode_channels(npy(array[..., 0])), array[..., :1])
    np.testing.assert_array_equal(decode_channels(npy(array[:5, :, :])), array[:5])  # five rows of five channels


@pytest.mark.parametrize('ending', ['.png', '.tiff'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_files_keep_depth_and_the_order_of_their_channels(ending, dtype):
    image = RNG.integers(0, np.iinfo(dtype).max, (6, 8, 4)).astype(dtype)
    scale = 1 if dtype == np.uint8 else 257
    for stored, expected in ((image, image[..., [2, 1, 0, 3]]), (image[..., :3], image[..., 2::-1]),
                             (image[..., 0], image[..., :1])):
        found = decode_channels(encoded(ending, stored))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected / scale, rtol=1e-6)


def test_pages_of_a_tiff_are_channels():
    pages = [RNG.integers(0, 60000, (6, 8), dtype=np.uint16) for _ in range(5)]
    content = cv2.imencodemulti('.tiff', pages)[1].tobytes()
    np.testing.assert_allclose(decode_channels(content), np.dstack(pages) / 257, rtol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec('tifffile') is None, reason='tifffile is not installed')
@pytest.mark.parametrize('planar', ['contig', 'separate'])
def test_samples_of_a_tiff_are_channels(planar):
    import tifffile
    image, buffer = RNG.integers(0, 60000, (16, 18, 7), dtype=np.uint16), io.BytesIO()
    stored = image if planar == 'contig' else image.transpose(2, 0, 1)
    tifffile.imwrite(buffer, stored, photometric='minisblack', planarconfig=planar)
    np.testing.assert_allclose(decode_channels(buffer.getvalue()), image / 257, rtol=1e-6)


@pytest.fixture
def tifffile(monkeypatch):
    """A stand-in that gives planes of 70 × 72 pixels, as many as the file has bytes behind its mark."""
    class TiffFile(SimpleNamespace):
        def __init__(self, file):
            count = len(file.read()) - 4
            planes = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 70, 72))
            super().__init__(series=[SimpleNamespace(shape=planes.shape, size=planes.size, asarray=lambda: planes)])

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

    monkeypatch.setattr(channel_files, 'find_spec', lambda name: name == 'tifffile')
    monkeypatch.setitem(sys.modules, 'tifffile', SimpleNamespace(TiffFile=TiffFile))


def test_tifffile_reads_tiffs_where_it_is_installed_up_to_64_values_a_pixel(tifffile):
    found = decode_channels(b'II*\0' + bytes(5))
    assert found.shape == (70, 72, 5)
    assert (found == [0, 1, 2, 3, 4]).all()
    assert decode_channels(encoded('.png', np.zeros((6, 8), np.uint8))).shape == (6, 8, 1)  # no TIFF
    stored, pixels = b'MM\0*' + bytes(64), 70 * 72
    assert decode_channels(stored, max_pixels=pixels).shape == (70, 72, 64)
    with pytest.raises(BadImageError, match=r'\(64, 70, 72\) values are too many'):
        decode_channels(stored, max_pixels=pixels - 1)
    with pytest.raises(BadImageError, match='72 x 70 pixels are too many'):  # not its values
        decode_channels(stored[:-1], max_pixels=pixels - 1)


@pytest.mark.parametrize('count', [2, 5])
def test_channels_that_are_no_colors_keep_their_order(monkeypatch, count):
    image = RNG.integers(0, 255, (6, 8, count), dtype=np.uint8)
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: image)
    np.testing.assert_array_equal(decode_channels(b'x'), image)


def test_values_are_brought_to_one_scale_without_rounding():
    assert to_byte_range(np.array([[0, 65535, 1]], np.uint16)).tolist() == [[0, 255, pytest.approx(1 / 257)]]
    assert to_byte_range(np.array([[0.5, 1.0]])).tolist() == [[127.5, 255]]
    assert to_byte_range(np.array([[7, 255]], np.uint8)).tolist() == [[7, 255]]
    assert to_byte_range(np.array([[0.0, 1.0, 0.2]])).tolist() == [[0, 255, pytest.approx(51)]]
    assert to_byte_range(np.array([[False, True]])).tolist() == [[0, 255]]
    for stored in (np.eye(2), np.eye(2, dtype=bool), np.eye(2, dtype=np.uint8), np.eye(2, dtype=np.uint16)):
        assert to_byte_range(stored).dtype == to_byte_range(stored, (0, 1)).dtype == np.float32
    np.testing.assert_allclose(to_byte_range(np.array([[-5, 0, 50, 100, 200]]), (0, 100)), [[0, 0, 127.5, 255, 255]])
    np.testing.assert_allclose(to_byte_range(np.array([[40, 50, 100, 150]], np.uint8), (50, 150)), [[0, 0, 127.5, 255]])


@pytest.mark.parametrize(('content', 'message'), [
    (b'', 'empty'), (b'nothing', 'no image'), (npy(np.zeros(4)), 'no image of channels'),
    (npy(np.full((4, 4), np.nan)), 'not finite'), (npy(np.full((4, 4), 3.5)), 'no natural range'),
    (npy(np.array([[0, np.inf]])), 'not finite'), (npy(np.array([[-0.1, 0.5]])), 'no natural range'),
    (npy(np.eye(4, dtype=int)), r'int64 values from 0 to 1 have no natural range'),
    (npy(np.full((4, 4), -3)), r'int64 values from -3 to -3 have no natural range'),
    (npy(np.array([[None]])), 'ValueError'), (npy(np.zeros((1, 400))), 'absurdly long'),
    (npy(np.zeros((4, 4)))[:-9], 'ValueError')])
def test_what_cannot_be_used_is_said(content, message):
    with pytest.raises(BadImageError, match=message):
        decode_channels(content)


def test_large_images_are_refused():
    with pytest.raises(BadImageError, match='too many'):
        decode_channels(npy(np.zeros((40, 40), np.uint8)), max_pixels=1599)
    assert decode_channels(npy(np.zeros((40, 40), np.uint8)), max_pixels=1600).shape == (40, 40, 1)
    for shape in ((1, MAX_ASPECT), (MAX_ASPECT, 1)):
        assert decode_channels(npy(np.zeros(shape, np.uint8))).shape == (*shape, 1)
    with pytest.raises(BadImageError, match='absurdly long'):
        decode_channels(npy(np.zeros((1, MAX_ASPECT + 1), np.uint8)))


def test_one_channel_of_a_gray_photograph():
    buffer = io.BytesIO()
    Image.new('L', (8, 6), 77).save(buffer, 'PNG')
    assert decode_channels(buffer.getvalue()).shape == (6, 8, 1)
    assert decode_channels(buffer.getvalue()).max() == 77
