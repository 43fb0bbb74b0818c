"""A ViT that encodes the visible patches only and is read at several depths: the encoder of LocalMIM.

LocalMIM (Huawei's Efficient-Computing@225ddd2, ``models_mim.py``): add positions, keep a random quarter of the patches,
put the class token in front, run the blocks; after blocks 2, 4, n-2 and n a LayerNorm of its own gives what that
scale's decoder reads. There is no other norm at the end.
"""

from collections.abc import Collection, Sequence

import torch
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn

from mm_graft.models.backbones.pretrained_init import names_checkpoint
from mm_graft.models.grids import check_divides
from mm_graft.models.masking import choose_visible
from mm_graft.models.position_table import sincos_position_table
from mm_graft.registry import MODELS


@MODELS.register_module(name=['VisiblePatchViT', 'LocalMIMViT'])
class VisiblePatchViT(VisionTransformer):
    """The host's ViT with taps, for masked and for whole images.

    ``encode_visible`` is the pre-training pass. Calling the module is the host's own pass over all patches, in which
    the norm of the last block's tap, if there is one, stands for the final norm. Parameters have the host's names,
    beside ``tap_norms.k``. The position table is fixed, in MAE's layout (the host's MAE has MoCo v3's). Initial weights
    are the authors': Xavier-uniform linear layers (fused qkv as one matrix) and patch projection, zero biases, class
    token from N(0, 0.02²).

    Args:
        img_size: side, or height and width, of the images.
        patch_size: side of a patch.
        taps: depths (1…n: after the i-th block) that are read, one per scale; by default 2, 4, n-2, n.
        mask_ratio: share of the patches that is hidden; int(N·(1 - ratio)) stay visible.
        norm_cfg: of the blocks and the taps.
    """

    def __init__(self,
                 arch: str | dict = 'b',
                 img_size: int | tuple[int, int] = 224,
                 patch_size: int = 16,
                 taps: Sequence[int] | None = None,
                 mask_ratio: float = 0.75,
                 norm_cfg: dict | None = None,
                 **kwargs):
        norm_cfg = norm_cfg or {'type': 'LN', 'eps': 1e-6}
        kwargs = {'out_type': 'raw', **kwargs}
        super().__init__(arch, img_size, patch_size, norm_cfg=norm_cfg, final_norm=False, **kwargs)
        depth = self.num_layers
        self.taps = tuple((2, 4, depth - 2, depth) if taps is None else taps)
        self.mask_ratio = mask_ratio
        self.num_patches = self.patch_resolution[0] * self.patch_resolution[1]
        self.num_visible = int(self.num_patches * (1 - mask_ratio))
        self._validate(patch_size)
        self.tap_norms = nn.ModuleList(build_norm_layer(norm_cfg, self.embed_dims) for _ in self.taps)
        self.final_norm = depth in self.taps
        self.pos_embed.requires_grad = False

    @property
    def ln1(self) -> nn.Module:
        """The final norm of the host's pass: that of the last block's tap."""
        return self.tap_norms[self.taps.index(self.num_layers)]

    def depth_overrides(self) -> dict[str, int]:
        """A tap's norm is as deep as the block that it reads."""
        return {f'tap_norms.{k}.': tap for k, tap in enumerate(self.taps)}

    def train(self, mode: bool = True) -> 'VisiblePatchViT':
        """Set the mode and return the module, as PyTorch's modules do and the host's do not."""
        super().train(mode)
        return self

    def init_weights(self) -> None:
        """Initialize as in the class docstring, unless a checkpoint is given."""
        pretrained = names_checkpoint(self)
        super().init_weights()
        if pretrained:
            return
        table = sincos_position_table(*self.patch_resolution, self.embed_dims)
        with torch.no_grad():
            self.pos_embed.zero_()[0, self.num_extra_tokens:] = table
        projection = self.patch_embed.projection
        nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
        nn.init.normal_(self.cls_token, std=0.02)
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encode_visible(self,
                       images: Tensor,
                       noise: Tensor | None = None,
                       scales: Collection[int] | None = None) -> tuple[list[Tensor | None], Tensor, Tensor]:
        """Encode a random part of the patches.

        Args:
            images: (B, 3, H, W) of the size that the encoder was built for.
            noise: (B, N) that decides which patches stay; drawn on the images' device if None.
            scales: indices of the taps that are wanted; the others are None in the result. None: all.

        Returns:
            what each tap reads, (B, 1 + visible, D), class token first; the mask (B, N), True = hidden; the order
            (B, N) that puts visible and then hidden tokens back in their places.
        """
        if images.shape[-2:] != self.img_size:
            raise ValueError(f'images of {tuple(images.shape[-2:])} pixels, but the encoder was built for '
                             f'{self.img_size}; set img_size or crop the images')
        patches = self.patch_embed(images)[0] + self.pos_embed[:, 1:]  # (B, N, D)
        if noise is None:
            noise = torch.rand(patches.shape[:2], device=images.device)
        ids_visible, ids_restore, mask = choose_visible(noise, self.num_visible)
        visible = patches.gather(1, ids_visible[..., None].expand(-1, -1, patches.shape[-1]))
        cls_token = (self.cls_token + self.pos_embed[:, :1]).to(visible.dtype).expand(len(visible), -1, -1)
        tokens = torch.cat([cls_token, visible], dim=1)  # (B, 1 + visible, D)
        return self.read_taps(tokens, scales), mask, ids_restore

    def read_taps(self, tokens: Tensor, scales: Collection[int] | None = None) -> list[Tensor | None]:
        """Run the blocks; normalize and return what leaves the tapped ones (those in ``scales``, if given)."""
        outputs: list[Tensor | None] = [None] * len(self.taps)
        tokens = self.pre_norm(self.drop_after_pos(tokens))
        for depth, block in enumerate(self.layers, start=1):
            tokens = block(tokens)
            for k, tap in enumerate(self.taps):
                if tap == depth and (scales is None or k in scales):
                    outputs[k] = self.tap_norms[k](tokens)
        return outputs

    def _validate(self, patch_size: int) -> None:
        check_divides(self.img_size, patch_size)
        if not self.taps or not all(1 <= tap <= self.num_layers for tap in self.taps):
            raise ValueError(f'taps={self.taps} of an encoder with {self.num_layers} blocks; '
                             f'choose depths in 1…{self.num_layers}')
        if self.num_layers not in self.taps:
            raise ValueError(f'taps={self.taps} leave the blocks above {max(self.taps)} without a gradient; add '
                             f'{self.num_layers}, or take fewer blocks')
        if self.cls_token is None:
            raise ValueError('with_cls_token=False: the decoders of LocalMIM read a class token before the patches; '
                             'keep it')
        if not 1 <= self.num_visible < self.num_patches:
            raise ValueError(f'mask_ratio={self.mask_ratio} leaves {self.num_visible} of {self.num_patches} patches '
                             'visible; at least one must be visible and one hidden')
