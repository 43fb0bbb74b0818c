"""Images of any number of channels and up to sixteen bits or floats: satellites, microscopes, scanners.

- ``.npy``: an array (H, W) or (H, W, C), or (C, H, W) where the first axis is shorter than the two others.
- TIFF: one image of any number of samples, or as many gray pages of one size, which are its channels; with ``tifffile``
  where that is installed, else by OpenCV, which reads up to four samples.
- all else that OpenCV decodes: gray, RGB or RGBA, in this order, alpha being the fourth channel.

Values become float32 in 0…255, the scale of all means and deviations here, and nothing is rounded: eight bits stay as
they are, sixteen are divided by 257, floats from 0 to 1 are multiplied by 255. ``value_range`` spreads a range instead.
"""

import io
from importlib.util import find_spec

import cv2
import numpy as np

from mm_graft.image_files import EXTENSIONS, MAX_ASPECT, MAX_PIXELS, BadImageError

CHANNEL_EXTENSIONS = (*EXTENSIONS, '.npy')
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
NPY = b'\x93NUMPY'


def decode_channels(content: bytes, value_range: tuple[float, float] | None = None,
                    max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The content of a file as an image (H, W, C), float32 in 0…255; ``value_range`` becomes 0 and 255.

    Raises:
        BadImageError: damaged, too large, or of values that have no natural range.
    """
    return to_byte_range(stored_channels(content, max_pixels), value_range)


def stored_channels(content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The same with the values of the file."""
    try:
        image = _decode(content, max_pixels)
    except BadImageError:
        raise
    except Exception as error:  # of any decoder
        raise BadImageError(f'{type(error).__name__}: {error}') from error
    if image is None or image.ndim not in (2, 3) or not image.size:
        raise BadImageError(f'no image of channels: shape {None if image is None else image.shape}')
    image = image.reshape(*image.shape[:2], -1)
    height, width, _ = image.shape
    if height * width > max_pixels or max(height, width) > MAX_ASPECT * min(height, width):
        raise BadImageError(f'{width} x {height} pixels are too many, or one side is absurdly long')
    return image


def _decode(content: bytes, max_pixels: int) -> np.ndarray | None:
    if not content:
        raise BadImageError('the file is empty')
    if content.startswith(NPY):
        return _channels_last(np.load(io.BytesIO(content), allow_pickle=False))
    if content.startswith(TIFF):
        return _read_tiff(content, max_pixels)
    return _to_rgb(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


def _read_tiff(content: bytes, max_pixels: int) -> np.ndarray | None:
    if find_spec('tifffile'):
        import tifffile
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            series = file.series[0]
            if series.size > 64 * max_pixels:
                raise BadImageError(f'{series.shape} values are too many')
            return _channels_last(series.asarray())
    _, pages = cv2.imdecodemulti(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if not pages:
        raise BadImageError('a TIFF that OpenCV does not read; pip install tifffile')
    return np.dstack([_to_rgb(page) for page in pages])


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Planes (C, H, W), which are taller and wider than they are many, as (H, W, C)."""
    planes_first = array.ndim == 3 and array.shape[0] < min(array.shape[1:])
    return array.transpose(1, 2, 0) if planes_first else array


def _to_rgb(image: np.ndarray | None) -> np.ndarray | None:
    """OpenCV's BGR or BGRA as RGB or RGBA."""
    if image is None or image.ndim < 3 or image.shape[2] not in (3, 4):
        return image
    return np.concatenate([image[..., 2::-1], image[..., 3:]], axis=2)


def to_byte_range(image: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Values of any type as float32 in 0…255, see the module."""
    low, high = float(image.min()), float(image.max())
    if not np.isfinite((low, high)).all():
        raise BadImageError(f'{image.dtype} values that are not finite')
    if value_range is not None:
        start, end = value_range
        return ((np.clip(image.astype(np.float32), start, end) - start) * (255 / (end - start))).astype(np.float32)
    if image.dtype == np.uint8:
        return image.astype(np.float32)
    if image.dtype == np.uint16:
        return image.astype(np.float32) / 257
    if image.dtype == bool or (image.dtype.kind == 'f' and low >= 0 and high <= 1):
        return 255 * image.astype(np.float32)
    raise BadImageError(f'{image.dtype} values from {low:.6g} to {high:.6g} have no natural range; give '
                        'value_range=(low, high)')
