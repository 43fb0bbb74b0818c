"""The host's MAE decoder, for images of any aspect."""

from mmengine.model import BaseModule
from mmpretrain.models.necks import MAEPretrainDecoder as HostDecoder
from torch import Tensor, nn

from mm_graft.models.position_table import mocov3_position_table
from mm_graft.registry import MODELS


@MODELS.register_module()
class MAEPretrainDecoder(HostDecoder):
    """The host's ``MAEPretrainDecoder``, told the grid instead of the number of patches, from which a grid is guessed.

    Args:
        grid: rows and columns of patches (one number: as many rows as columns).
        kwargs: as for the host's, without ``num_patches``.
    """

    def __init__(self, grid: int | tuple[int, int] = 14, **kwargs) -> None:
        self_grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        super().__init__(num_patches=self_grid[0] * self_grid[1], **kwargs)
        self.grid = self_grid

    def init_weights(self) -> None:
        """Initialize as the host does, drawing the same numbers."""
        BaseModule.init_weights(self)
        self.decoder_pos_embed.data.copy_(mocov3_position_table(self.grid, self.decoder_pos_embed.shape[-1]))
        nn.init.normal_(self.mask_token, std=.02)

    def forward(self, x: Tensor, ids_restore: Tensor) -> Tensor:
        """(B, 1 + visible, D) and the order of the patches (B, N) → predictions (B, N, pixels of a patch)."""
        if ids_restore.shape[1] != self.num_patches:
            raise ValueError(f'{ids_restore.shape[1]} patches came to a decoder for {self.grid[0]}×{self.grid[1]}; '
                             'give neck.grid the rows and columns of patches of the encoder')
        return super().forward(x, ids_restore)
