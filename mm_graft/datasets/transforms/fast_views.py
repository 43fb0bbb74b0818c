"""Crops and colors of contrastive views with OpenCV on bytes, for loaders that cannot keep up.

The operations and distributions are those of MoCo v3's pipeline with PIL (``facebookresearch/moco-v3@c349e6e``; the
host's transforms with ``backend='pillow'``); the pixels agree to rounding for the colors, and to the shape of the
filter for resizing and blur. Images are (H, W, 3), uint8, BGR, as ``LoadImageFromFile`` gives them. All randomness is
Python's, which the host seeds in every worker.
"""

import math
import random
from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mm_graft.registry import TRANSFORMS

LUMA = (0.114, 0.587, 0.299)  # of B, G, R: ITU-R 601, as in PIL
LEVELS = np.arange(256, dtype=np.float32)
ENLARGE = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC}
ATTEMPTS = 10
OPENCV_CHANNELS = 4  # that it resizes at once


def crop_box(height: int, width: int, area: Sequence[float], aspect: Sequence[float]) -> tuple[int, int, int, int]:
    """A random box as top, left, height, width: torchvision's ``RandomResizedCrop``.

    Its share of the image is U(area), its aspect ratio log-uniform; drawn again until it fits, after ten attempts the
    largest central box of an allowed aspect ratio.
    """
    for _ in range(ATTEMPTS):
        pixels = random.uniform(*area) * height * width
        ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width, box_height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            return random.randint(0, height - box_height), random.randint(0, width - box_width), box_height, box_width
    box_width = min(width, round(height * aspect[1]))
    box_height = min(height, round(width / aspect[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = 'bilinear') -> np.ndarray:
    """Resize to (height, width); where it shrinks, pixels are averaged over their area (PIL: a wider triangle)."""
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    method = cv2.INTER_AREA if shrinks else ENLARGE[interpolation]
    if image.ndim == 2 or image.shape[2] <= OPENCV_CHANNELS:
        return cv2.resize(image, size[::-1], interpolation=method)
    return np.dstack([cv2.resize(image[..., first:first + OPENCV_CHANNELS], size[::-1], interpolation=method)
                      for first in range(0, image.shape[2], OPENCV_CHANNELS)])


def through_table(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace level v by ``values[v]``, rounded down and clipped as PIL does."""
    return cv2.LUT(image, np.clip(values, 0, 255).astype(np.uint8))


def scale_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black."""
    return through_table(image, factor * LEVELS)


def scale_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean of the luma, rounded to a level."""
    mean = math.floor(cv2.mean(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))[0] + 0.5)
    return through_table(image, mean + factor * (LEVELS - mean))


def scale_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the luma."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * np.array([LUMA] * 3))


def shift_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn the hue (in HSV with 256 steps) by a share of the circle."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += np.uint8(int(turn * 255) % 256)  # wraps around
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def gray(image: np.ndarray) -> np.ndarray:
    """The luma in all channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, cut at three sigma (PIL: three box filters of the same variance)."""
    side = 2 * math.ceil(3 * sigma) + 1
    return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def solarize(image: np.ndarray, threshold: int = 128) -> np.ndarray:
    """Invert pixels at or above the threshold."""
    return through_table(image, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS))


@TRANSFORMS.register_module()
class FastCrop(BaseTransform):
    """Random resized crop and mirror image.

    Args:
        scale: side, or height and width, of the result.
        crop_ratio_range: share of the area that is kept, from, to.
        aspect_ratio_range: from, to.
        interpolation: 'bilinear' or 'bicubic', where the crop is enlarged.
        flip: probability of the mirror image.
    """

    def __init__(self, scale: int | tuple[int, int], crop_ratio_range: tuple[float, float] = (0.08, 1.0),
                 aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3), interpolation: str = 'bilinear',
                 flip: float = 0.5) -> None:
        check_probabilities(flip=flip)
        if interpolation not in ENLARGE:
            raise ValueError(f'interpolation={interpolation!r} is unknown; choose one of {list(ENLARGE)}')
        if not 0 < crop_ratio_range[0] <= crop_ratio_range[1] <= 1:
            raise ValueError(f'crop_ratio_range={crop_ratio_range} are shares of the image; choose 0 < from ≤ to ≤ 1')
        if not 0 < aspect_ratio_range[0] <= aspect_ratio_range[1]:
            raise ValueError(f'aspect_ratio_range={aspect_ratio_range}; choose 0 < from ≤ to')
        self.size = (scale, scale) if isinstance(scale, int) else tuple(scale)
        self.area, self.aspect = crop_ratio_range, aspect_ratio_range
        self.interpolation, self.flip = interpolation, flip

    def transform(self, results: dict) -> dict:
        """Crop, resize and mirror ``img``."""
        image = results['img']
        top, left, height, width = crop_box(*image.shape[:2], self.area, self.aspect)
        image = resize(image[top:top + height, left:left + width], self.size, self.interpolation)
        results['img'] = cv2.flip(image, 1) if random.random() < self.flip else image
        results['img_shape'] = results['img'].shape
        return results


@TRANSFORMS.register_module()
class FastPhotometric(BaseTransform):
    """Color jitter, gray, blur and solarization, in this order; the jitter's four parts in random order.

    Args:
        jitter: largest change of brightness, contrast and saturation (factors 1 ± x) and of the hue (± x turns).
        jitter_probability: of jitter.
        gray_probability: of gray.
        blur_probability: of blur.
        blur_sigma: in pixels, from, to.
        solarize_probability: of solarization.
        solarize_threshold: level from which it inverts.
    """

    def __init__(self, jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
                 jitter_probability: float = 0.8, gray_probability: float = 0.2, blur_probability: float = 0.0,
                 blur_sigma: tuple[float, float] = (0.1, 2.0), solarize_probability: float = 0.0,
                 solarize_threshold: int = 128) -> None:
        check_probabilities(jitter=jitter_probability, gray=gray_probability, blur=blur_probability,
                            solarize=solarize_probability)
        self.jitter, self.jitter_probability = jitter, jitter_probability
        self.gray_probability = gray_probability
        self.blur_probability, self.blur_sigma = blur_probability, blur_sigma
        self.solarize_probability, self.solarize_threshold = solarize_probability, solarize_threshold

    def transform(self, results: dict) -> dict:
        """Change the colors of ``img``."""
        image = results['img']
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'an image of shape {image.shape}; colors need (H, W, 3)')
        if random.random() < self.jitter_probability:
            image = jitter_colors(image, *self.jitter)
        if random.random() < self.gray_probability:
            image = gray(image)
        if random.random() < self.blur_probability:
            image = blur(image, random.uniform(*self.blur_sigma))
        if random.random() < self.solarize_probability:
            image = solarize(image, self.solarize_threshold)
        results['img'] = image
        return results


def jitter_colors(image: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Brightness, contrast, saturation and hue changed by random amounts, in random order."""
    changes = [(scale_brightness, random.uniform(1 - brightness, 1 + brightness)),
               (scale_contrast, random.uniform(1 - contrast, 1 + contrast)),
               (scale_saturation, random.uniform(1 - saturation, 1 + saturation)),
               (shift_hue, random.uniform(-hue, hue))]
    random.shuffle(changes)
    for change, amount in changes:
        image = change(image, amount)
    return image


def check_probabilities(**probabilities: float) -> None:
    """Check that values are probabilities."""
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise ValueError(f'probability of {name} is {value}; choose one in [0, 1]')
