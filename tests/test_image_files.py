import io
import os
import random
import struct
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from mm_graft.image_files import EXTENSIONS, BadImageError, Rules, decode_image, read_image_bytes, to_eight_bits

PIXELS = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (60, 40))  # in BGR
RAMP = np.linspace(0, 4095, 4096).reshape(64, 64).astype(np.uint16)  # twelve bits, as of a CT or an industrial camera


def saved(picture, kind, **kwargs):
    file = io.BytesIO()
    picture.save(file, kind, **kwargs)
    return file.getvalue()


def picture(mode='RGB'):
    return Image.fromarray(PIXELS[..., ::-1].copy()).convert(mode)


def tiff_of(array):
    """An uncompressed TIFF of one strip, (H, W, C) of eight bits, which neither Pillow nor OpenCV writes."""
    height, width, channels = array.shape
    tags = [(256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, 1, 8 + 2 + 9 * 12 + 4),
            (277, 1, channels), (278, 1, height), (279, 1, array.size)]
    entries = b''.join(struct.pack('<HHII', tag, 4, count, value) for tag, count, value in tags)
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + array.tobytes()


def encoded(array, suffix='.png'):
    return cv2.imencode(suffix, array)[1].tobytes()


def png_of(width, height):
    """A few bytes that promise many pixels."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(bytes(100))) + chunk(b'IEND', b'')


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF', 'PPM', 'JPEG2000', 'AVIF'])
@pytest.mark.parametrize('color_type', ['color', 'grayscale', 'unchanged'])
def test_standard_images_have_the_hosts_pixels(kind, color_type):
    content = saved(picture(), kind)
    decoded = decode_image(content, color_type=color_type)
    assert np.array_equal(decoded.image, mmcv.imfrombytes(content, flag=color_type))
    assert decoded.losses == {}


@pytest.mark.parametrize(('mode', 'kind'), [
    ('L', 'PNG'), ('P', 'PNG'), ('1', 'PNG'), ('CMYK', 'JPEG'), ('CMYK', 'TIFF'), ('L', 'TIFF')])
def test_palettes_gray_and_cmyk_become_color(mode, kind):
    content = saved(picture(mode), kind)
    found = decode_image(content).image.astype(int)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))[..., ::-1]
    assert np.abs(found - expected).max() <= 2


def test_an_image_lies_as_the_camera_was_held():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right
    content = saved(picture(), 'PNG', exif=exif)
    assert np.array_equal(decode_image(content).image, np.rot90(PIXELS, -1))
    alpha = picture('RGBA')
    alpha.putpixel((0, 0), (0, 0, 0, 0))
    assert decode_image(saved(alpha, 'PNG', exif=exif)).image.shape == (60, 40, 3)


def test_twelve_bits_in_sixteen_are_told_with_the_range_and_spread_on_request():
    dark = decode_image(encoded(RAMP))
    assert dark.image.max() == 15
    assert 'uint16 values from 0 to 4095 of 65535' in dark.losses['depth']
    assert 'value_range=(0, 4095)' in dark.losses['depth']
    bright = decode_image(encoded(RAMP), Rules(value_range=(0, 4095)))
    assert bright.losses == {}
    assert np.array_equal(bright.image[..., 1], np.rint(RAMP / 4095 * 255))
    assert decode_image(encoded(RAMP), Rules(value_range=(0, 4095)), 'grayscale').image.shape == (64, 64)


@pytest.mark.parametrize(('mode', 'said'), [('RGBX', '4 channels, of which only color is used'), ('RGB', None),
                                            ('CMYK', None), ('L', None), ('RGBA', None), ('LA', None)])
def test_channels_beside_color_and_opacity_are_told(mode, said):
    image = picture(mode) if mode != 'RGBX' else Image.merge('RGBX', (*picture().split(), picture('L')))
    found = decode_image(saved(image, 'TIFF'))
    assert found.losses.get('channels') == said
    assert found.image.shape == PIXELS.shape


def test_channels_that_the_decoder_does_not_read_have_a_loader_that_does():
    with pytest.raises(BadImageError, match=r'5 channels; mm_graft\.LoadChannels\(channels=5\) reads them'):
        decode_image(tiff_of(np.zeros((8, 8, 5), np.uint8)))


def test_colors_that_would_be_taken_for_others_are_refused():
    with pytest.raises(BadImageError, match='CIELab; convert it to RGB'):
        decode_image(saved(Image.new('LAB', (8, 8)), 'TIFF'))


@pytest.mark.parametrize('values', [RAMP, np.stack([RAMP, RAMP // 2, RAMP // 4], 2)])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_a_range_is_spread_in_gray_and_color_alike(values, suffix):
    found = decode_image(encoded(values, suffix), Rules(value_range='image')).image
    expected = values if values.ndim == 3 else np.stack([values] * 3, 2)
    assert np.array_equal(found, np.rint(expected / 4095 * 255))


def test_full_sixteen_bits_keep_their_upper_eight():
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    decoded = decode_image(encoded(values))
    assert decoded.losses == {}
    assert np.array_equal(decoded.image, values >> 8)


@pytest.mark.parametrize(('maximum', 'wide'), [(15, False), (255, False), (1023, True), (4095, True)])
def test_a_portable_graymap_states_its_range(maximum, wide):
    values = np.arange(60).reshape(6, 10) * maximum // 59
    content = f'P5 10 6 {maximum}\n'.encode() + values.astype('>u2' if wide else 'u1').tobytes()
    assert np.abs(decode_image(content).image[..., 0] - values * 255 / maximum).max() <= 0.5


@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 3)])
def test_floats_from_zero_to_one_are_levels(shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    found = decode_image(encoded(values, '.tif')).image
    assert np.array_equal(found, np.rint(255 * (values if values.ndim == 3 else np.stack([values] * 3, 2))))


@pytest.mark.parametrize(('values', 'kind', 'said'), [
    (np.linspace(-1000, 3000, 600).reshape(20, 30), np.float32, 'float32 values from -1000 to 3000'),
    (np.linspace(0, 1.5, 600).reshape(20, 30), np.float64, 'float64 values from 0 to 1.5'),
    (np.arange(600).reshape(20, 30), np.int32, 'int32 values from 0 to 599'),
    (np.arange(1800).reshape(20, 30, 3), np.float32, 'float32 values from 0 to 1799')])
def test_other_pixel_types_are_named_and_take_a_range(values, kind, said):
    content = encoded(values.astype(kind), '.tif')
    with pytest.raises(BadImageError, match=f'{said}.*value_range'):
        decode_image(content)
    low, high = values.min(), values.max()
    expected = np.rint((values - low) / (high - low) * 255)
    found = decode_image(content, Rules(value_range=(low, high))).image.astype(int)
    assert np.abs(found - (expected if expected.ndim == 3 else expected[..., None])).max() <= 1


def test_values_outside_a_range_are_cut_and_not_wrapped():
    assert to_eight_bits(np.array([0, 10, 20, 30]), (10, 20))[0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    with pytest.raises(BadImageError, match='not finite'):
        to_eight_bits(np.array([0, 1, value], np.float32), 'image')


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF'])
def test_transparent_pixels_show_the_background_and_are_told(kind):
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:20], alpha[20] = 0, 51  # a fifth
    rgba = np.dstack([PIXELS[..., ::-1], alpha])
    content = saved(Image.fromarray(rgba), kind, **({'lossless': True, 'exact': True} if kind == 'WEBP' else {}))
    decoded = decode_image(content)
    assert (decoded.image[:20] == 255).all()
    assert np.array_equal(decoded.image[21:], PIXELS[21:])
    assert np.abs(decoded.image[20] - (0.2 * PIXELS[20] + 0.8 * 255)).max() <= 0.5
    assert 'gray level 255' in decoded.losses['transparency']
    assert (decode_image(content, Rules(background=0)).image[:20] == 0).all()


def test_an_opaque_alpha_channel_changes_nothing_and_is_not_spoken_of():
    decoded = decode_image(saved(picture('RGBA'), 'PNG'))
    assert np.array_equal(decoded.image, PIXELS)
    assert decoded.losses == {}


def test_sixteen_bits_with_transparency():
    values = np.full((4, 4, 4), 40000, np.uint16)
    values[..., 3], values[0, 0, 3] = 65535, 0
    found = decode_image(encoded(values)).image
    assert found[0, 0].tolist() == [255] * 3
    assert found[1, 1].tolist() == [40000 >> 8] * 3


@pytest.mark.parametrize('kind', ['GIF', 'TIFF', 'WEBP', 'PNG'])
def test_the_first_of_several_frames_is_used_and_told(kind):
    frames = [Image.new('RGB', (20, 10), color) for color in ('#ff0000', '#0000ff', '#00ff00')]
    decoded = decode_image(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(decoded.image.astype(int) - [0, 0, 255]).max() <= 8
    assert decoded.losses == {'frames': '3 frames, of which the first is used'}


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'GIF', 'PPM'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 0.9, 0.99])
def test_cut_images_are_seen(kind, share):
    content = saved(picture(), kind)
    with pytest.raises(BadImageError):
        decode_image(content[:int(share * len(content))])
    assert decode_image(content + bytes(100)).image.shape == (40, 60, 3)


@pytest.mark.parametrize('size', [(100000, 100000), (30000, 30000), (20000, 20000), (8193, 8192)])
def test_images_that_would_fill_the_memory_are_not_decoded(size):
    with pytest.raises(BadImageError, match=r'DecompressionBomb|pixels are more than max_pixels'):
        decode_image(png_of(*size))


@pytest.mark.parametrize(('size', 'thin'), [
    ((1, 65000), True), ((65000, 1), True), ((1, 128), False), ((1, 129), True)])
def test_strips_that_would_fill_the_memory_once_scaled_are_refused(size, thin):
    content = saved(Image.new('RGB', size), 'PNG')
    if thin:
        with pytest.raises(BadImageError, match='one side is more than 128 times the other'):
            decode_image(content)
    else:
        assert decode_image(content).image.shape == (*size[::-1], 3)


def test_the_limit_counts_pixels():
    assert decode_image(encoded(PIXELS), Rules(max_pixels=2400)).image.shape == (40, 60, 3)
    with pytest.raises(BadImageError, match='60 x 40 pixels are more than max_pixels=2399'):
        decode_image(encoded(PIXELS), Rules(max_pixels=2399))


def test_a_size_that_only_a_tiffs_tags_tell_is_bounded_too():
    content = encoded(np.zeros((40, 60, 3), np.float32), '.tif')
    with pytest.raises(BadImageError, match='60 x 40 pixels are more than max_pixels=2399'):
        decode_image(content, Rules(max_pixels=2399))


@pytest.mark.parametrize('content', [b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', b'no image', b'II*\0', b''])
def test_what_is_no_image_or_could_run_a_program_is_refused(content):
    with pytest.raises(BadImageError, match=r'no known image format|empty'):
        decode_image(content)


def test_damaged_bytes_end_in_an_image_or_a_reason():
    rng, refused = random.Random(0), 0
    for _ in range(200):
        content = bytearray(saved(picture(rng.choice(['RGB', 'RGBA'])), rng.choice(['PNG', 'WEBP', 'TIFF', 'GIF'])))
        for _ in range(rng.choice((1, 5, 50))):
            content[rng.randrange(min(len(content), rng.choice((40, 10**6))))] = rng.randrange(256)
        try:
            image = decode_image(bytes(content[:rng.randrange(len(content))] if rng.random() < 0.3 else content)).image
            assert image.dtype == np.uint8
            assert image.ndim == 3
        except BadImageError as error:
            refused += bool(str(error))
    assert 20 < refused < 200


@pytest.mark.parametrize('kind', ['pipe', 'device', 'folder', 'nothing', 'huge'])
def test_only_regular_files_of_sensible_size_are_read(tmp_path, kind):
    path = tmp_path / 'a.jpg'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'huge':
        with path.open('wb') as file:
            file.truncate(2**28 + 1)  # sparse
    with pytest.raises(BadImageError, match=r'a pipe|a device|a directory|No such file|more than 268435456 bytes'):
        read_image_bytes('/dev/zero' if kind == 'device' else str(path))


def test_endings_are_those_of_formats_that_are_decoded():
    assert {'.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.ppm'} <= set(EXTENSIONS)
    assert all(ending.startswith('.') and ending == ending.lower() for ending in EXTENSIONS)


@pytest.mark.parametrize('wrong', [
    {'value_range': (5, 5)}, {'value_range': 'all'}, {'value_range': (1, 2, 3)}, {'background': 256},
    {'background': -1}, {'max_pixels': 0}])
def test_rules_are_checked(wrong):
    with pytest.raises(ValueError, match='|'.join(wrong)):
        Rules(**wrong)
