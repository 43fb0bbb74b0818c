"""Pixels as targets at several scales: the patches of an image, each standardized.

    t = (p - mean(p)) / √(var(p) + 10⁻⁶),   var with n - 1          (MAE, arXiv:2111.06377, §4.2)

LocalMIM offers it for Swin only, with patches of 8, 16, 32 and 32 pixels; here it is open to every encoder and scale.
"""

from collections.abc import Collection, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mm_graft.equations import patchify
from mm_graft.models.grids import check_divides
from mm_graft.registry import MODELS


def standardize_patches(patches: Tensor) -> Tensor:
    """Mean 0 and (unbiased) variance 1 in every patch, (B, N, D); flat patches become zero."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / torch.sqrt(variance + 1e-6)


@MODELS.register_module()
class PixelTarget(BaseModule):
    """The patches of an image at several sizes, in fp32 whatever the autocast (fp64 for fp64 images).

    Args:
        cells: side of a patch in pixels, a scale each.
        standardized: as in the formula above; otherwise the pixels as the network sees them.
    """

    def __init__(self, cells: Sequence[int] = (4, 8, 16, 32), standardized: bool = True):
        super().__init__()
        if not cells or min(cells) < 1:
            raise ValueError(f'cells={list(cells)}: give at least one side in pixels, each at least 1')
        self.cells, self.standardized = tuple(cells), standardized

    @property
    def out_channels(self) -> list[int]:
        """Numbers per token of an RGB image, at every scale."""
        return [3 * cell**2 for cell in self.cells]

    @torch.no_grad()
    def forward(self, images: Tensor, scales: Collection[int] | None = None) -> list[Tensor | None]:
        """Targets of all scales or of the wanted ones, as in `HOGTarget.forward`: (B, (H/p)(W/p), p·p·C) or None."""
        images = images if images.dtype == torch.float64 else images.float()
        return [self._target(images, cell) if scales is None or k in scales else None
                for k, cell in enumerate(self.cells)]

    def _target(self, images: Tensor, cell: int) -> Tensor:
        check_divides(images.shape[-2:], cell)
        patches = patchify(images, cell)
        return standardize_patches(patches) if self.standardized else patches
