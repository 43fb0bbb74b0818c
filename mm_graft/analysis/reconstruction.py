"""Input, mask, prediction and target of a masked-image model, as arrays to draw.

Understood are models with a method ``reconstruct(images) → (predictions, targets, mask)``, a scale each (LocalMIM), and
the host's MAE: ``backbone``, ``neck`` and a ``head`` that patchifies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np
import torch
from torch import Tensor, nn

from mm_graft.channel_files import decode_channels
from mm_graft.equations import patchify, unpatchify
from mm_graft.image_files import BadImageError, Rules, decode_image, read_image_bytes


@dataclass(frozen=True)
class Scale:
    """Prediction and target at one resolution."""

    #: pictures (H, W, 3) in [0, 1], or histograms (rows, columns, bins), mean over the channels
    prediction: np.ndarray
    target: np.ndarray
    hidden: np.ndarray  #: how much of each cell was hidden, (rows, columns) in [0, 1]
    is_histogram: bool  #: which of the two it is


@dataclass(frozen=True)
class Reconstruction:
    """One image: picture (H, W, 3) in [0, 1], mask (h, w), True = hidden, and its scales, finest first."""

    image: np.ndarray
    mask: np.ndarray
    scales: list[Scale]


def read_readable(paths: Sequence[str | Path], size: tuple[int, int], channels: int = 3,
                  reading: Mapping | None = None) -> tuple[np.ndarray, list[int], dict[int, str]]:
    """As :func:`read_images`, without the files that are no readable pictures.

    Returns:
        the centers (N, height, width, C), N = 0 too; the indices of their paths; the reason for each index left out.
    """
    centers, problems = {}, {}
    for index, path in enumerate(paths):
        try:
            centers[index] = read_images([path], size, channels, reading)[0]
        except ValueError as error:
            problems[index] = str(error)
    pixels = np.stack([*centers.values()]) if centers else np.zeros((0, *size, channels), np.uint8)
    return pixels, [*centers], problems


def read_images(paths: Sequence[str | Path], size: tuple[int, int], channels: int = 3,
                reading: Mapping | None = None) -> np.ndarray:
    """The centers of picture files, scaled to just cover (height, width) → (B, height, width, C), 0…255.

    For one channel gray, for three RGB, both of eight bits; for another number, or with ``channels`` in ``reading``, as
    :mod:`mm_graft.channel_files` reads them. ``reading`` has the options of the training's loading.
    """
    return np.stack([cover(read_picture(path, channels, **(reading or {})), size) for path in paths])


def read_picture(path: str | Path, wanted: int, channels: int | None = None, **rules: object) -> np.ndarray:
    """One picture, (H, W, C), with as many channels as ``channels`` says, else as are ``wanted``."""
    try:
        content = read_image_bytes(str(path))
        if channels is None and wanted in (1, 3):
            color = 'color' if wanted == 3 else 'grayscale'
            return np.atleast_3d(decode_image(content, Rules(**rules), color).image)[..., ::-1]  # BGR → RGB
        image = decode_channels(content, **rules)
    except BadImageError as error:
        raise ValueError(f'{path} is not a readable picture: {error}') from error
    if image.shape[2] != (channels or wanted):
        raise ValueError(f'{path} has {image.shape[2]} channels, and the model takes {channels or wanted}')
    return image


def cover(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The center of an image (H, W, C), scaled to just cover a size; by Pillow, where it has eight bits."""
    height, width = size
    factor = max(height / image.shape[0], width / image.shape[1])
    scaled = (math.ceil(image.shape[1] * factor), math.ceil(image.shape[0] * factor))
    backend = 'pillow' if image.dtype == np.uint8 else 'cv2'
    flat = image[..., 0] if image.shape[2] == 1 else image
    image = mmcv.imresize(flat, scaled, interpolation='bicubic', backend=backend).reshape(*scaled[::-1], -1)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top:top + height, left:left + width].clip(0, 255)


def visible_channels(picture: np.ndarray) -> np.ndarray:
    """What three channels can show of (…, C): one as gray, of more than three the first three, two as red and green."""
    if picture.shape[-1] == 1:
        return picture.repeat(3, -1)
    return np.concatenate([picture, np.zeros_like(picture[..., :1])], -1)[..., :3] if picture.shape[-1] == 2 else (
        picture[..., :3])


def visible(pixels: np.ndarray) -> np.ndarray:
    """Pictures (N, H, W, 3) that can be shown; those of more than eight bits are brightened to their range."""
    if pixels.dtype == np.uint8:
        return visible_channels(pixels)
    brightest = max(float(np.percentile(pixels, 99.5)), 1e-6)
    return visible_channels((255 * pixels / brightest).clip(0, 255)).astype(np.uint8)


@torch.no_grad()
def reconstruct(model: nn.Module, images: np.ndarray) -> list[Reconstruction]:
    """Hide parts of images (B, H, W, C), 0…255, by the global random state, and reconstruct them."""
    preprocessor = model.data_preprocessor
    mean, std = (getattr(preprocessor, name).cpu().flatten() for name in ('mean', 'std'))  # (C, ) each, or (1, )
    pixels = (torch.from_numpy(images).float() - mean) / std  # (B, H, W, C)
    inputs = pixels.permute(0, 3, 1, 2).contiguous().to(next(model.parameters()).device)
    if hasattr(model, 'reconstruct'):
        scales, mask = _localmim_scales(model, inputs, mean, std)
    elif hasattr(getattr(model, 'head', None), 'patchify'):
        scales, mask = _mae_scale(model, inputs, mean, std)
    else:
        raise TypeError(f'{type(model).__name__} cannot be drawn; give a config of MAE or LocalMIM')
    return [Reconstruction(visible_channels(images[k]) / 255, mask[k].cpu().numpy(), [scale[k] for scale in scales])
            for k in range(len(images))]


def _localmim_scales(model: nn.Module, inputs: Tensor, mean: Tensor, std: Tensor) -> tuple[list[list[Scale]], Tensor]:
    predictions, targets, mask = model.reconstruct(inputs)
    generator, size = model.target_generator, inputs.shape[-2:]
    scales = []
    for cell, prediction, target in zip(generator.cells, predictions, targets):
        if prediction is None:
            continue
        grid = (size[0] // cell, size[1] // cell)
        if hasattr(generator, 'nbins'):
            pair = [tokens_to_histograms(tokens, grid, generator.nbins) for tokens in (prediction, target)]
        else:
            pair = [prediction, target]
            if generator.standardized:
                pair = [_unstandardize(tokens, patchify(inputs, cell)) for tokens in pair]
            pair = [to_picture(tokens, grid, inputs.shape[1], mean, std) for tokens in pair]
        scales.append(_pack(*pair, mask, grid, hasattr(generator, 'nbins')))
    return scales, mask


def _mae_scale(model: nn.Module, inputs: Tensor, mean: Tensor, std: Tensor) -> tuple[list[list[Scale]], Tensor]:
    latent, mask, ids_restore = model.backbone(inputs)
    side, grid = model.head.patch_size, tuple(model.backbone.patch_resolution)
    tokens, patches = model.neck(latent, ids_restore), patchify(inputs, model.head.patch_size)
    tokens = _unstandardize(tokens, patches) if model.head.norm_pix else tokens
    mask = mask.bool().unflatten(1, grid)
    pair = [to_picture(part, (inputs.shape[-2] // side, inputs.shape[-1] // side), inputs.shape[1], mean, std)
            for part in (tokens, patches)]
    return [_pack(*pair, mask, grid, False)], mask


def _pack(prediction: Tensor, target: Tensor, mask: Tensor, grid: tuple[int, int], is_histogram: bool) -> list[Scale]:
    hidden = nn.functional.adaptive_avg_pool2d(mask[:, None].float(), grid)[:, 0]
    if grid[0] > mask.shape[1]:
        hidden = nn.functional.interpolate(mask[:, None].float(), grid, mode='nearest')[:, 0]
    return [Scale(*(part.float().cpu().numpy() for part in parts), is_histogram)
            for parts in zip(prediction, target, hidden)]


def _unstandardize(tokens: Tensor, patches: Tensor) -> Tensor:
    """Give each standardized patch the brightness and contrast that the true one has, as MAE's pictures do."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return tokens * torch.sqrt(variance + 1e-6) + mean


def to_picture(tokens: Tensor, grid: tuple[int, int], channels: int, mean: Tensor, std: Tensor) -> Tensor:
    """Patches (B, N, side·side·C) → pictures (B, H, W, 3) in [0, 1], see :func:`visible_channels`."""
    pictures = unpatchify(tokens, grid, channels).permute(0, 2, 3, 1).float().cpu()  # (B, C, H, W) → (B, H, W, C)
    return torch.from_numpy(visible_channels(((pictures * std + mean) / 255).clamp(0, 1).numpy()))


def tokens_to_histograms(tokens: Tensor, grid: tuple[int, int], nbins: int) -> Tensor:
    """HOG tokens (B, rows·columns, C·nbins) → (B, rows, columns, nbins), mean over the channels, at least 0."""
    return tokens.float().unflatten(-1, (-1, nbins)).unflatten(1, grid).mean(dim=3).clamp(min=0)


def strokes(histograms: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """A stroke for every bin of every cell (rows, columns, N), along the edge (across the gradient).

    Bin k of N holds the angles atan2(g_x, g_y) from kπ/N to (k+1)π/N; the stroke is drawn at its middle. Returns the
    ends of the strokes (rows·columns·N, 2, 2) as (x right, y down), and the entries that they stand for.
    """
    rows, columns, nbins = histograms.shape
    angle = (np.arange(nbins) + 0.5) * np.pi / nbins
    reach = 0.46 * min(width / columns, height / rows)
    along = reach * np.stack([np.cos(angle), -np.sin(angle)], axis=-1)  # (N, 2)
    y, x = np.meshgrid((np.arange(rows) + 0.5) * height / rows, (np.arange(columns) + 0.5) * width / columns,
                       indexing='ij')
    center = np.stack([x, y], axis=-1)[:, :, None]  # (rows, columns, 1, 2)
    ends = np.stack([center - along, center + along], axis=-2)  # (rows, columns, N, 2, 2)
    return ends.reshape(-1, 2, 2), histograms.reshape(-1)
