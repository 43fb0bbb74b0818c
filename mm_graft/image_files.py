"""Image files from anywhere → eight bits a channel, by stated rules and within bounds; or the reason why not.

- Bounds: only regular files are opened; bytes, pixels and aspect are looked at before anything is decoded.
- Damage: a file that ends early is refused, also where a decoder would fill the rest with gray.
- Depth: sixteen bits keep their upper eight, floats from 0 to 1 are scaled by 255, portable pixmaps by the maximum that
  they state; other pixel types need a range. ``value_range`` spreads a range instead.
- Samples beside color and opacity, which TIFF may have, are left out; colors in CIELab are refused.
- Transparent pixels show ``background``, white by default. Palettes, gray and CMYK become color.
- The orientation that a camera noted (EXIF) is applied; of several frames the first is taken.

What is lost on the way is told with the image, so that a loader can say it.
"""

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import mmcv
import numpy as np
from mmengine.fileio import LocalBackend, get_file_backend
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mm_graft.files import read_small_bytes

# formats that are opened (others can run programs, PostScript above all) → endings that their files have
FORMATS = {
    'JPEG': ('.jpg', '.jpeg', '.jpe', '.jfif', '.jif'), 'PNG': ('.png', '.apng'), 'BMP': ('.bmp', '.dib'),
    'WEBP': ('.webp', ), 'TIFF': ('.tif', '.tiff'), 'GIF': ('.gif', ), 'PPM': ('.ppm', '.pgm', '.pbm', '.pnm'),
    **({'JPEG2000': ('.jp2', '.j2k', '.j2c')} if features.check('jpg_2000') else {}),
    **({'AVIF': ('.avif', )} if features.check('avif') else {})}
EXTENSIONS = tuple(ending for endings in FORMATS.values() for ending in endings)
MAX_BYTES = 2**28
MAX_PIXELS = 2**26
MAX_ASPECT = 128  # a strip scaled to 256 pixels on its short side would otherwise fill the memory
FEW_BITS = 2**14  # sixteen-bit images with nothing from here on most likely hold 10, 12 or 14 bits
ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}  # how a file begins → what stands near its end
WIDTH, HEIGHT, COLORS, SAMPLES = 256, 257, 262, 277  # tags of TIFF
CIELAB = 8
# Pillow's, of sizes and metadata; once for all: `catch_warnings` around each image would let all others be said again
warnings.filterwarnings('ignore', module=r'PIL\.')


class BadImageError(ValueError):
    """An image that cannot be used; the message says why, without the name of the file."""


@dataclass(frozen=True)
class Rules:
    """How an image becomes eight bits."""

    max_pixels: int = MAX_PIXELS  #: larger images are refused
    #: values that become 0 and 255, or ``'image'`` for the smallest and largest of each image; None: see the module
    value_range: tuple[float, float] | str | None = None
    background: int = 255  #: gray level behind transparent pixels

    def __post_init__(self) -> None:
        wanted = self.value_range
        pair = isinstance(wanted, list | tuple) and len(wanted) == 2 and wanted[0] < wanted[1]
        if not pair and wanted not in (None, 'image'):
            raise ValueError(f"value_range={wanted!r}; give the values that become 0 and 255, 'image', or None")
        if not 0 <= self.background <= 255 or self.max_pixels < 1:
            raise ValueError(f'background={self.background}, max_pixels={self.max_pixels}: a gray level from 0 to 255, '
                             'and at least 1')


DEFAULT = Rules()


@dataclass(frozen=True)
class Decoded:
    """An image, and what was lost on the way to it."""

    image: np.ndarray  #: (H, W, 3) in BGR, or (H, W) in gray; uint8
    #: 'depth', 'transparency', 'frames' or 'channels' → what there was, for a message
    losses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What a file says about its image: its size, more than eight bits, color, transparency, the largest value, and how
    many values a pixel has that TIFF can have and an image here cannot.

    ``picture`` is Pillow's, not decoded yet; None for a TIFF whose pixel type Pillow does not know.
    """

    size: tuple[int, int]
    deep: bool
    color: bool
    alpha: bool
    maximum: int | None
    picture: Image.Image | None
    samples: int = 0


def read_image_bytes(path: str, backend_args: dict | None = None) -> bytes:
    """Content of an image file, local or of another backend of the host.

    Raises:
        BadImageError: it cannot be read, is no regular file, or has more than ``MAX_BYTES``.
    """
    try:
        backend = get_file_backend(path, backend_args=backend_args, enable_singleton=True)
        return read_small_bytes(path, MAX_BYTES) if isinstance(backend, LocalBackend) else backend.get(path)
    except Exception as error:  # of any file system
        raise BadImageError(f'{type(error).__name__}: {error}') from error


def decode_image(content: bytes, rules: Rules = DEFAULT, color_type: str = 'color', backend: str = 'cv2') -> Decoded:
    """Decode the content of an image file.

    ``color_type`` and ``backend`` are those of the host's ``LoadImageFromFile``; what is neither 'color' nor
    'grayscale' is left to the host.

    Raises:
        BadImageError: damaged, too large, or of a pixel type that has no rule.
    """
    try:
        header = read_header(content)
        check_bounds(header, content, rules.max_pixels)
        if color_type not in ('color', 'grayscale') or not (header.deep or header.alpha):
            image, losses = mmcv.imfrombytes(content, flag=color_type, backend=backend), {}
        else:
            image, losses = _flatten(*_planes(content, header), header, rules)
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if color_type == 'grayscale' else image
    except BadImageError:
        raise
    except Exception as error:  # of any decoder
        raise BadImageError(f'{type(error).__name__}: {error}') from error
    if image is None:
        raise BadImageError(undecoded(header))
    frames = getattr(header.picture, 'n_frames', 1) if getattr(header.picture, 'format', '') != 'MPO' else 1
    if frames > 1:
        losses['frames'] = f'{frames} frames, of which the first is used'
    if header.samples:
        losses['channels'] = f'{header.samples} channels, of which only {"color" if header.color else "gray"} is used'
    return Decoded(image, losses)


def read_header(content: bytes) -> Header:
    """What stands at the beginning of an image file, of ``FORMATS`` or else a ``BadImageError``."""
    if not content:
        raise BadImageError('the file is empty')
    try:
        picture = Image.open(io.BytesIO(content), formats=list(FORMATS))
    except UnidentifiedImageError:
        return _tiff_header(content)
    arguments = picture.tile[0][3] if picture.tile else None
    arguments = arguments if isinstance(arguments, tuple) else (arguments, )
    maximum = arguments[1] if picture.format == 'PPM' and len(arguments) > 1 else None
    deep = picture.mode[0] in 'IF' or ';16' in str(arguments[0]) or (maximum or 255) != 255
    alpha = picture.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in picture.info
    color = picture.mode[:3] == 'RGB' or picture.mode in ('P', 'PA', 'CMYK', 'YCbCr', 'LAB')
    tags = getattr(picture, 'tag_v2', {})
    samples = tags.get(SAMPLES, 0) if tags.get(SAMPLES, 0) > len(picture.getbands()) else 0
    check_colors(tags)
    return Header(picture.size, deep, color, alpha, maximum, picture, samples)


def check_colors(tags: Mapping) -> None:
    """Check that a TIFF has colors that a decoder turns into RGB."""
    if tags.get(COLORS) == CIELAB:
        raise BadImageError('its colors are CIELab; convert it to RGB')


def _tiff_header(content: bytes) -> Header:
    try:
        tags = ImageFileDirectory_v2(content[:8])
        file = io.BytesIO(content)
        file.seek(tags.next)
        tags.load(file)
        size, samples = (int(tags[WIDTH]), int(tags[HEIGHT])), int(tags.get(SAMPLES, 1))
    except Exception as error:  # of a file that is no TIFF, or a damaged one
        raise BadImageError('no known image format') from error
    check_colors(tags)
    return Header(size, True, samples > 1, False, None, None, samples if samples not in (1, 3) else 0)


def check_bounds(header: Header, content: bytes, max_pixels: int) -> None:
    """Refuse an image that is not worth decoding, or a file that ends early, where a decoder would not say it."""
    width, height = header.size
    if width * height > max_pixels:
        raise BadImageError(f'{width} x {height} pixels are more than max_pixels={max_pixels}')
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadImageError(f'{width} x {height} pixels: one side is more than {MAX_ASPECT} times the other')
    end = next((end for start, end in ENDS.items() if content.startswith(start)), None)
    if end is not None and end not in content[-64:]:
        header.picture.copy()  # decodes it, without using up what comes later


def undecoded(header: Header) -> str:
    """The message for an image of which the decoder makes nothing."""
    if header.samples:
        return f'{header.samples} channels; mm_graft.LoadChannels(channels={header.samples}) reads them'
    picture = header.picture
    what = f'{picture.format} of mode {picture.mode}' if picture else 'more than eight bits a channel'
    return f'{what}: the decoder gives nothing'


def _planes(content: bytes, header: Header) -> tuple[np.ndarray, np.ndarray | None]:
    """Color (H, W, 3) in BGR or gray (H, W), and the opacity (H, W) if there is one, both at the depth of the file."""
    if header.alpha and not header.deep:
        pixels = np.asarray(ImageOps.exif_transpose(header.picture).convert('RGBA'))
        return pixels[..., 2::-1], pixels[..., 3]
    flag = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_COLOR if header.color else cv2.IMREAD_GRAYSCALE)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED if header.alpha else flag)
    if pixels is None:
        raise BadImageError(undecoded(header))
    return (pixels[..., :3], pixels[..., 3]) if header.alpha and pixels.shape[-1] == 4 else (pixels, None)


def _flatten(color: np.ndarray, opacity: np.ndarray | None, header: Header, rules: Rules) -> tuple[np.ndarray, dict]:
    losses = {}
    if color.dtype != np.uint8 or header.maximum:
        color, lost = to_eight_bits(color, rules.value_range, header.maximum)
        losses.update({'depth': lost} if lost else {})
    color = np.ascontiguousarray(color if color.ndim == 3 else np.repeat(color[..., None], 3, axis=2))
    if opacity is not None and (opacity < np.iinfo(opacity.dtype).max).any():
        share = opacity[..., None] / np.iinfo(opacity.dtype).max
        color = np.rint(share * color + (1 - share) * rules.background).astype(np.uint8)
        losses['transparency'] = f'transparent pixels, which show gray level {rules.background}'
    return color, losses


def to_eight_bits(
    values: np.ndarray, value_range: tuple[float, float] | str | None = None, maximum: int | None = None,
) -> tuple[np.ndarray, str]:
    """Values of any type as uint8, and what a message should say about it (empty if nothing).

    For ``value_range`` see :class:`Rules`; ``maximum`` is the largest value that the file allows for, if it says so.
    """
    low, high = float(values.min()), float(values.max())
    said = f'{values.dtype} values from {low:.6g} to {high:.6g}'
    if not np.isfinite((low, high)).all():
        raise BadImageError(f'{said}: not finite')
    if value_range is not None:
        low, high = (low, max(high, low + 1e-12)) if value_range == 'image' else value_range
        spread = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
        return np.rint(255 * spread).astype(np.uint8), ''
    if maximum is not None:
        return np.rint(values * (255 / maximum)).astype(np.uint8), ''
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8), darkness(values)
    if values.dtype.kind == 'f' and low >= 0 and high <= 1:
        return np.rint(255 * values).astype(np.uint8), ''
    raise BadImageError(f"{said} have no natural range; give the loader value_range=(low, high) or 'image'")


def darkness(values: np.ndarray) -> str:
    """What a message should say of values of which only the lower bits are used; empty if they are not."""
    low, high = int(values.min()), int(values.max())
    if values.dtype != np.uint16 or high >= FEW_BITS:
        return ''
    return (f'uint16 values from {low} to {high} of 65535, which is dark; '
            f'value_range=(0, {2**max(8, high.bit_length()) - 1}) would spread them')
