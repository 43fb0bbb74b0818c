"""Photometric augmentation of a batch on its device, with random parameters per image.

Images are (B, C, H, W) in [0, 1]; saturation and hue are for three channels (RGB) alone. The operations and ranges are
torchvision's and PIL's (brightness, contrast, saturation as blends; hue as a rotation in YIQ instead of HSV; solarize
above a threshold); a sample that an operation does not pick keeps its exact values.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
# RGB → YIQ (NTSC); hue is an angle in the IQ plane
RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
# what of a rotation in that plane stays, goes with its cosine, and with its sine
ROTATION = (((1, 0, 0), (0, 0, 0), (0, 0, 0)), ((0, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 0, 0), (0, 0, -1), (0, 1, 0)))


def uniform(count: int, low: float, high: float, like: Tensor) -> Tensor:
    """One number per image, (B, 1, 1, 1)."""
    return torch.empty(count, 1, 1, 1, device=like.device, dtype=like.dtype).uniform_(low, high)


def apply_to_some(images: Tensor, changed: Tensor, probability: float) -> Tensor:
    """Take the changed version of each image with the given probability."""
    return torch.where(uniform(len(images), 0, 1, images) < probability, changed, images)


def gray(images: Tensor) -> Tensor:
    """Luma, repeated over the channels; their mean where they are not RGB."""
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True).expand_as(images)
    red, green, blue = images.split(1, dim=1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).expand_as(images)


def color_jitter(images: Tensor, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Brightness, contrast and saturation scaled by U(1 − x, 1 + x), hue turned by U(−x, x) of a full turn."""
    count = len(images)
    images = (images * uniform(count, 1 - brightness, 1 + brightness, images)).clamp(0, 1)
    mean = gray(images).mean((1, 2, 3), keepdim=True)
    images = mean.lerp(images, uniform(count, 1 - contrast, 1 + contrast, images)).clamp(0, 1)
    if images.shape[1] != 3:
        return images
    images = gray(images).lerp(images, uniform(count, 1 - saturation, 1 + saturation, images)).clamp(0, 1)
    return turn_hue(images, uniform(count, -hue, hue, images).view(-1) * 2 * math.pi)


def turn_hue(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate the colors of each image by its angle (B, in radians), luma kept."""
    to_yiq = torch.tensor(RGB_TO_YIQ, dtype=images.dtype)
    parts = torch.linalg.inv(to_yiq) @ torch.tensor(ROTATION, dtype=images.dtype) @ to_yiq  # (3, 3, 3)
    parts = parts.to(images.device, non_blocking=True)  # made on the CPU, since an inverse waits for the device
    factors = torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()])  # (3, B)
    matrix = torch.einsum('kb,kij->bij', factors, parts)
    return torch.einsum('bij,bjhw->bihw', matrix, images).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur each image with its sigma (B, in pixels), separably; the kernel reaches two of the largest sigma.

    The bound is given, not read from ``sigma``, so that nothing waits for the device.
    """
    radius = max(1, min(round(2 * largest), images.shape[-1] - 1, images.shape[-2] - 1))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma.view(-1, 1).square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(images.shape[1], 0)  # (B·C, K)
    flat = images.flatten(0, 1).unsqueeze(0)  # (B, C, H, W) → (1, B·C, H, W)
    channels = flat.shape[1]
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), 'reflect'), kernel[:, None, None, :], groups=channels)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), 'reflect'), kernel[:, None, :, None], groups=channels)
    return flat.view_as(images)


def solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert pixels at or above the threshold."""
    return torch.where(images >= threshold, 1 - images, images)
