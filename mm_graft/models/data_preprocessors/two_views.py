"""Two augmented views of every image, made in batches on the device."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mm_graft.models.data_preprocessors import photometric
from mm_graft.models.data_preprocessors.channels import ChannelPreprocessor
from mm_graft.registry import MODELS


def crop_boxes(count: int, scale: tuple[float, float], ratio: tuple[float, float], like: Tensor) -> Tensor:
    """Random boxes (B, 4) as center x, center y, width, height, in shares of the image.

    The area is U(scale), the aspect ratio log-uniform, the place uniform: torchvision's ``RandomResizedCrop``, except
    that a box that would stick out is cut to the image instead of drawn again.
    """
    random = torch.rand(4, count, device=like.device, dtype=like.dtype)
    area = scale[0] + (scale[1] - scale[0]) * random[0]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * random[1])
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    return torch.stack([width / 2 + (1 - width) * random[2], height / 2 + (1 - height) * random[3], width, height], 1)


def crop_and_flip(images: Tensor, boxes: Tensor, flip: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut each image to its box, mirror where ``flip`` (B, bool) is set, resize to ``size``: (B, C, height, width)."""
    center_x, center_y, width, height = boxes.unbind(1)
    theta = boxes.new_zeros(len(boxes), 2, 3)
    theta[:, 0, 0] = torch.where(flip, -width, width)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = 2 * center_x - 1
    theta[:, 1, 2] = 2 * center_y - 1
    grid = F.affine_grid(theta, [len(images), images.shape[1], *size], align_corners=False)
    return F.grid_sample(images, grid, mode='bilinear', padding_mode='reflection', align_corners=False)


@MODELS.register_module()
class TwoViewPreprocessor(ChannelPreprocessor):
    """Make both views of a contrastive method on the device, for machines with few cores.

    Each view is cropped, mirrored, jittered, grayed, blurred and solarized with parameters drawn per image, then
    normalized. MoCo v3's own pipeline (``configs/_base_/imagenet_two_views.py``) does the same work image by image in
    the loader's processes; the distributions agree, the pixels do not (bilinear sampling without antialiasing).

    Args:
        mean: per channel, in 0…255.
        std: per channel, in 0…255.
        to_rgb: turn BGR into RGB.
        size: height and width of a view; the size of the images if None.
        scale: share of the area that a crop keeps, from, to.
        ratio: aspect ratio of a crop, from, to.
        jitter: brightness, contrast, saturation, hue.
        jitter_probability: of each view.
        gray_probability: of each view.
        blur_probability: of the first and the second view.
        blur_sigma: in pixels, from, to.
        solarize_probability: of the first and the second view; above half of the brightness.
        flip_probability: of each view.
        non_blocking: whether images are copied to the device without waiting for it.
    """

    def __init__(self, mean: list[float], std: list[float], to_rgb: bool = False,
                 size: tuple[int, int] | None = None, scale: tuple[float, float] = (0.08, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3),
                 jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1), jitter_probability: float = 0.8,
                 gray_probability: float = 0.2, blur_probability: tuple[float, float] = (1.0, 0.1),
                 blur_sigma: tuple[float, float] = (0.1, 2.0), solarize_probability: tuple[float, float] = (0.0, 0.2),
                 flip_probability: float = 0.5, non_blocking: bool = True) -> None:
        super().__init__(mean=mean, std=std, to_rgb=to_rgb, non_blocking=non_blocking)
        for value in (jitter_probability, gray_probability, flip_probability, *blur_probability,
                      *solarize_probability):
            if not 0 <= value <= 1:
                raise ValueError(f'probability {value} is outside [0, 1]')
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'scale={scale} is the share of the image that a crop keeps; choose 0 < from ≤ to ≤ 1')
        self.size, self.scale, self.ratio, self.jitter = size, scale, ratio, jitter
        self.jitter_probability, self.gray_probability = jitter_probability, gray_probability
        self.blur_probability, self.blur_sigma = blur_probability, blur_sigma
        self.solarize_probability, self.flip_probability = solarize_probability, flip_probability

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Images of a batch, (B, C, H, W) in 0…255 → a list of two views; in test mode one normalized batch."""
        data = self.cast_data(data)
        images = self.in_order(data['inputs'])
        if not training:
            return {**data, 'inputs': self.normalize(images)}
        images = images / 255
        views = [self.normalize(self.view(images, index) * 255) for index in (0, 1)]
        return {**data, 'inputs': views}

    def view(self, images: Tensor, index: int) -> Tensor:
        """One view of images in [0, 1]; ``index`` says which blur and solarize probabilities are meant."""
        return self.augment(images, self.size or images.shape[-2:], self.scale, self.blur_probability[index],
                            self.solarize_probability[index])

    def augment(self, images: Tensor, size: tuple[int, int], scale: tuple[float, float], blur_probability: float,
                solarize_probability: float) -> Tensor:
        """Crop, flip and color-jitter images in [0, 1], with random parameters per image."""
        count = len(images)
        boxes = crop_boxes(count, scale, self.ratio, images)
        flip = torch.rand(count, device=images.device) < self.flip_probability
        images = crop_and_flip(images, boxes, flip, size)
        images = photometric.apply_to_some(images, photometric.color_jitter(images, *self.jitter),
                                           self.jitter_probability)
        if images.shape[1] == 3 and self.gray_probability:
            images = photometric.apply_to_some(images, photometric.gray(images), self.gray_probability)
        if blur_probability:
            sigma = photometric.uniform(count, *self.blur_sigma, images).view(-1)
            images = photometric.apply_to_some(images, photometric.gaussian_blur(images, sigma, self.blur_sigma[1]),
                                               blur_probability)
        if solarize_probability:
            images = photometric.apply_to_some(images, photometric.solarize(images, 0.5), solarize_probability)
        return images
