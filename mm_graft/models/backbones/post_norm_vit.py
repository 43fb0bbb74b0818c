"""The host's ViT with the norms behind attention and MLP: the encoder of data2vec 2.0."""

from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mm_graft.models.backbones.graft_vit import GraftViT
from mm_graft.registry import MODELS


class PostNormBlock(TransformerEncoderLayer):
    """The host's block as x ← norm(x + attention(x)), x ← norm(x + mlp(x)); parameters have the host's names.

    Args:
        block: the host's, whose parts this one takes over.
    """

    def __init__(self, block: TransformerEncoderLayer) -> None:
        BaseModule.__init__(self)
        self.embed_dims = block.embed_dims
        self.ln1, self.attn, self.ln2, self.ffn = block.ln1, block.attn, block.ln2, block.ffn

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, D) through the block."""
        x = self.ln1(x + self.attn(x))
        return self.ln2(self.ffn(x, identity=x))


@MODELS.register_module()
class PostNormViT(GraftViT):
    """``GraftViT`` with a norm before the first block and one behind each half of every block, none at the end.

    data2vec 2.0 (Baevski et al., ICML 2023) is trained so (``layer_norm_first=False`` in fairseq). State-dict keys are
    the host's: ``pre_norm``, ``layers.i.ln1``, ``layers.i.ln2``.

    Args:
        kwargs: as for ``GraftViT``.
    """

    def __init__(self, class_token_only: bool = False, **kwargs) -> None:
        if class_token_only:
            raise ValueError('class_token_only=True computes a block with its norms in front; leave it out')
        patch_cfg = {'bias': True, **kwargs.pop('patch_cfg', {})}  # the host drops it with a norm before the blocks
        super().__init__(**{**kwargs, 'pre_norm': True, 'final_norm': False, 'patch_cfg': patch_cfg})
        self.layers = ModuleList(map(PostNormBlock, self.layers))

    @property
    def output_norm(self) -> nn.Module:
        """The last norm of the last block, in place of a final norm."""
        return self.layers[-1].ln2
