"""New transformer blocks on top of frozen ones: how much is left to learn behind a depth."""

from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mm_graft.registry import MODELS


@MODELS.register_module()
class NewBlocks(BaseModule):
    """``num_blocks`` randomly initialized ViT blocks and a norm after the tokens of a frozen block; class token out.

    Table 5 of Layer Grafted Pre-training: the backbone ends at block b (``out_indices=[b - 1]``, ``out_type='raw'``,
    ``final_norm=False``, or the frozen norm would come before the new blocks where b is the last one), n new blocks are
    trained behind it, each at the full drop-path rate, and a final norm.

    The authors' code loads the pre-trained final norm and trains it on; here it starts at 1 and 0.

    Args:
        embed_dims: D.
        num_blocks: n; 0 leaves the norm alone.
        num_heads: heads of each block.
        feedforward_channels: hidden width of each MLP; 4 D if None.
        drop_path_rate: of every new block.
    """

    def __init__(self, embed_dims: int, num_blocks: int, num_heads: int, feedforward_channels: int | None = None,
                 drop_path_rate: float = 0.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if num_blocks < 0:
            raise ValueError(f'num_blocks={num_blocks}; choose 0 (only the norm) or more')
        self.blocks = ModuleList(
            TransformerEncoderLayer(embed_dims, num_heads, feedforward_channels or 4 * embed_dims,
                                    drop_path_rate=drop_path_rate, norm_cfg=dict(type='LN', eps=1e-6))
            for _ in range(num_blocks))
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tokens (B, 1 + num_patches, D) of the last output → class token (B, D), as a tuple of one."""
        tokens = features[-1]
        for block in self.blocks:
            tokens = block(tokens)
        return (self.norm(tokens)[:, 0],)
