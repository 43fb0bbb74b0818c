"""Histograms of oriented gradients at several scales from one pass over the pixels: LocalMIM's target.

Per color channel (LocalMIM, Huawei's Efficient-Computing@225ddd2, ``models_mim.py``), with 3×3 Sobel sums over the
image mirrored by one pixel at its border:

    g_x = left - right,   g_y = top - bottom,   m = √(g_x² + g_y²)
    bin = ⌊atan2(g_x, g_y)/π · N⌋ mod N         (g_x comes first; opposite directions share a bin)
    h[bin] = mean of m over the p×p pixels of a cell,   target = h / ‖h‖₂

It is no textbook HOG: each pixel votes for one bin alone, without a Gaussian window and without normalizing over
blocks. mmpretrain's ``HOGGenerator`` differs from it by that window, and its output is tied to one 14×14 grid.

How we differ from the authors' code, by intention:

- They histogram the pixels once a scale; here the cells of the finest scale are averaged up to the others, which is
  the same number up to rounding, as means of equal shares are means of the whole. A bias on the gradients is another
  pair at every scale, so then nothing can be shared and each scale is computed by itself.
- Flat pixels: where the gradient is smaller than the rounding error of the sums that made it, it counts as zero, and
  a cell of such pixels has the target zero. Their code normalizes the rounding noise of most constant areas to
  unit vectors of no meaning.
- An orientation within rounding of a bin's lower edge belongs to that bin. So exact ties (90°, 180°) fall as in exact
  arithmetic also where a device divides by multiplying with a rounded 1/π.
- Always fp32 (fp64 for fp64 images), whatever the autocast; theirs bins half-precision gradients under autocast.
"""

import math
from collections.abc import Collection, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mm_graft.registry import MODELS

BIAS_BOUND = 1 / 3  # PyTorch's initial bias of a convolution with nine inputs: U(-1/√9, 1/√9)
FLAT_ULPS = 16  # a Sobel sum has eight terms of up to twice the image's largest value


def sobel_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """(g_x, g_y) of every channel; (B, C, H, W) → 2 × (B, C, H, W)."""
    padded = F.pad(images, (1, 1, 1, 1), mode='reflect')
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]  # (B, C, H, W+2)
    columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]  # (B, C, H+2, W)
    return rows[..., :-2] - rows[..., 2:], columns[..., :-2, :] - columns[..., 2:, :]


def vote(images: Tensor, nbins: int, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Magnitude and bin of every pixel; (B, C, H, W) → (B, C, H, W) and the same as int64 in 0…nbins-1.

    ``bias``: (2,), added to g_x and g_y.
    """
    g_x, g_y = sobel_gradients(images)
    if bias is not None:
        g_x, g_y = g_x + bias[0], g_y + bias[1]
    magnitude = torch.sqrt(g_x * g_x + g_y * g_y)
    eps = torch.finfo(images.dtype).eps
    rounding = FLAT_ULPS * eps * images.abs().amax(dim=(-2, -1), keepdim=True)
    magnitude = torch.where(magnitude > rounding, magnitude, 0)
    angle = torch.atan2(g_x, g_y) * (nbins / math.pi)
    bins = torch.floor(angle + 2 * eps * nbins).remainder(nbins)
    return magnitude, bins.long()


def cell_histograms(images: Tensor, nbins: int, cell: int, bias: Tensor | None = None) -> Tensor:
    """Mean magnitude by bin in cells of ``cell``×``cell`` pixels; (B, C, H, W) → (B, C, nbins, H/cell, W/cell)."""
    batch, channels, height, width = images.shape
    rows, columns = height // cell, width // cell
    magnitude, bins = vote(images, nbins, bias)
    row = torch.arange(height, device=images.device).div(cell, rounding_mode='floor')
    column = torch.arange(width, device=images.device).div(cell, rounding_mode='floor')
    index = bins * (rows * columns) + (row[:, None] * columns + column)
    sums = magnitude.new_zeros(batch, channels, nbins * rows * columns)
    sums.scatter_add_(2, index.flatten(2), magnitude.flatten(2))
    return sums.view(batch, channels, nbins, rows, columns) / cell**2


def normalize_cells(histograms: Tensor) -> Tensor:
    """Divide each cell's histogram by its L2 norm; (B, C, N, h, w) → tokens (B, h·w, C·N), channel slowest."""
    unit = F.normalize(histograms, dim=2)
    return unit.flatten(3).flatten(1, 2).transpose(1, 2)


def pool_cells(histograms: Tensor, factor: int) -> Tensor:
    """Average ``factor``×``factor`` cells into one; (B, C, N, h, w) → (B, C, N, h/factor, w/factor)."""
    if factor == 1:
        return histograms
    return F.avg_pool2d(histograms.flatten(0, 1), factor).unflatten(0, histograms.shape[:2])


def multi_scale_hog(images: Tensor, nbins: int, cells: Sequence[int]) -> list[Tensor]:
    """HOG tokens (B, (H/p)(W/p), C·nbins) for every cell side p, from one histogram at their common divisor."""
    finest = math.gcd(*cells)
    histograms = cell_histograms(images, nbins, finest)
    return [normalize_cells(pool_cells(histograms, cell // finest)) for cell in cells]


def biased_hog(images: Tensor, nbins: int, cell: int, bias: Tensor) -> Tensor:
    """HOG tokens (B, (H/cell)(W/cell), C·nbins) with ``bias`` (2,) added to the gradients of every channel."""
    return normalize_cells(cell_histograms(images, nbins, cell, bias))


@MODELS.register_module()
class HOGTarget(BaseModule):
    """HOG of an image at several cell sizes, see the module.

    With ``random_bias`` each scale adds a frozen pair of numbers, drawn once from U(-1/3, 1/3) and kept in the
    checkpoint, to all gradients: what the authors' ``--hog_bias`` does in the recipes of ViT-L and Swin. The targets
    then depend on the seed, and the scales share no computation.

    Args:
        nbins: orientations between 0° and 180°.
        cells: side of a cell in pixels, a scale each.
        random_bias: draw the pairs described above.
        chunk_size: images that are computed at a time; bounds the memory, does not change the result.
    """

    def __init__(self,
                 nbins: int = 9,
                 cells: Sequence[int] = (4, 8, 16, 32),
                 random_bias: bool = False,
                 chunk_size: int = 64):
        super().__init__()
        if nbins < 1 or chunk_size < 1 or not cells or min(cells) < 1:
            raise ValueError(f'nbins={nbins}, cells={list(cells)}, chunk_size={chunk_size}: all must be at least 1')
        self.nbins, self.cells, self.chunk_size = nbins, tuple(cells), chunk_size
        bias = torch.empty(len(self.cells), 2).uniform_(-BIAS_BOUND, BIAS_BOUND) if random_bias else None
        self.register_buffer('bias', bias)

    @property
    def out_channels(self) -> list[int]:
        """Numbers per token of an RGB image, at every scale."""
        return [3 * self.nbins] * len(self.cells)

    @torch.no_grad()
    def forward(self, images: Tensor, scales: Collection[int] | None = None) -> list[Tensor | None]:
        """Targets (B, (H/p)(W/p), C·nbins) of all scales, or of the wanted ones, the others None.

        Args:
            images: (B, C, H, W), normalized as the network sees them.
            scales: indices into ``cells``; None: all.
        """
        wanted = [k for k in range(len(self.cells)) if scales is None or k in scales]
        self._check_size(images, wanted)
        images = images if images.dtype == torch.float64 else images.float()
        with torch.autocast(images.device.type, enabled=False):
            parts = [self._targets(chunk, wanted) for chunk in images.split(self.chunk_size)]
        targets = dict(zip(wanted, (torch.cat(part) for part in zip(*parts))))
        return [targets.get(k) for k in range(len(self.cells))]

    def _targets(self, images: Tensor, wanted: list[int]) -> list[Tensor]:
        if not wanted:
            return []
        if self.bias is None:
            return multi_scale_hog(images, self.nbins, [self.cells[k] for k in wanted])
        bias = self.bias.to(images.dtype)
        return [biased_hog(images, self.nbins, self.cells[k], bias[k]) for k in wanted]

    def _check_size(self, images: Tensor, wanted: list[int]) -> None:
        height, width = images.shape[-2:]
        for cell in (self.cells[k] for k in wanted):
            if height % cell or width % cell:
                raise ValueError(f'cells of {cell} pixels do not divide an image of {height}×{width}; '
                                 'choose cells that do, or crop the image to a multiple of them')
