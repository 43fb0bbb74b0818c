"""The host's MAE encoder, for images of any aspect."""

from mmpretrain.models import VisionTransformer
from mmpretrain.models.selfsup.mae import MAEViT as HostMAEViT
from torch import Tensor, nn

from mm_graft.models.backbones.pretrained_init import names_checkpoint
from mm_graft.models.grids import check_divides
from mm_graft.models.position_table import mocov3_position_table
from mm_graft.registry import MODELS


@MODELS.register_module()
class MAEViT(HostMAEViT):
    """The host's ``MAEViT`` with the position table of its own grid; on square images the same weights and outputs.

    The host builds the table of the square grid with as many patches, which another grid either cannot hold or takes in
    the wrong places (64 × 256 pixels: the table of 128 × 128), and draws patch projection and class token anew after
    ``init_cfg=dict(type='Pretrained', …)`` has loaded them.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_divides(self.img_size, self.patch_embed.projection.kernel_size)

    def init_weights(self) -> None:
        """Initialize as the host does, drawing the same numbers, unless a checkpoint is given."""
        pretrained = names_checkpoint(self)
        VisionTransformer.init_weights(self)
        if pretrained:
            return
        self.pos_embed.data.copy_(mocov3_position_table(self.patch_resolution, self.embed_dims))
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        nn.init.normal_(self.cls_token, std=.02)

    def forward(self, x: Tensor, mask: bool | None = True) -> tuple[Tensor, ...]:
        """As in the host: (visible tokens, mask, order) of masked images; with ``mask=None`` features of whole ones."""
        if mask and tuple(x.shape[-2:]) != tuple(self.img_size):
            raise ValueError(f'images of {x.shape[-2]}×{x.shape[-1]} pixels came to an encoder built for '
                             f'{self.img_size[0]}×{self.img_size[1]}; set img_size, or crop the images to it')
        return super().forward(x, mask or None)
