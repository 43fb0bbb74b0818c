"""The host's MAE head, for images of any aspect."""

from mmpretrain.models.heads import MAEPretrainHead as HostHead
from torch import Tensor

from mm_graft.models.grids import check_divides
from mm_graft.models.targets.pixels import patchify
from mm_graft.registry import MODELS


@MODELS.register_module()
class MAEPretrainHead(HostHead):
    """The host's ``MAEPretrainHead``, which cuts images that are not square too, of any number of channels."""

    def patchify(self, imgs: Tensor) -> Tensor:
        """(B, C, H, W) → (B, N, patch_size²·C), row by row."""
        check_divides(imgs.shape[-2:], self.patch_size)
        return patchify(imgs, self.patch_size)

    def unpatchify(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, N, patch_size²·C) → (B, C, H, W) for a grid of (rows, columns)."""
        side = self.patch_size
        blocks = x.reshape(len(x), *grid, side, side, -1)  # (B, rows, columns, side, side, C)
        return blocks.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, grid[0] * side, grid[1] * side)
