"""LocalMIM's decoders: one small transformer a scale.

Each (Huawei's Efficient-Computing@225ddd2, ``models_mim.py``) maps its tap to its own width, puts mask tokens in the
hidden places, adds fixed positions, runs its blocks at the encoder's resolution, and only then changes the resolution:
by deconvolutions that halve the channels, LayerNorm and GELU between them, or by average pooling. A 1×1 convolution
predicts.
"""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import LayerNorm2d, build_norm_layer
from torch import Tensor, nn

from mm_graft.models.masking import insert_mask_tokens
from mm_graft.models.position_table import sincos_position_table
from mm_graft.registry import MODELS


def rescaling_layers(scale: float, channels: int) -> tuple[list[nn.Module], int]:
    """Layers that multiply the resolution of a (B, C, h, w) map by ``scale``, and the channels that leave them."""
    steps = math.log2(scale) if scale > 0 else math.nan
    if not steps.is_integer():
        raise ValueError(f'scale={scale} must be a power of two, such as 4, 2, 1 or 0.5')
    if steps <= 0:
        return ([nn.AvgPool2d(round(1 / scale))] if steps else []), channels
    if channels % scale:
        raise ValueError(f'embed_dims={channels} cannot be halved {int(steps)} times for scale={scale}; '
                         f'choose a multiple of {int(scale)}')
    layers: list[nn.Module] = []
    for step in range(int(steps)):
        if step:
            layers += [LayerNorm2d(channels, eps=1e-6), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels //= 2
    return layers, channels


class ScaleDecoder(BaseModule):
    """Base of the two decoders; arguments as in `LocalMIMNeck`, for one scale."""

    def __init__(self, in_channels: int, out_channels: int, grid: tuple[int, int], scale: float, embed_dims: int,
                 num_heads: int, depth: int, mlp_ratio: float, norm_cfg: dict):
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide embed_dims={embed_dims}')
        if any(side * scale != int(side * scale) for side in grid):
            raise ValueError(f'scale={scale} does not fit the grid {grid}: it would leave {grid[0] * scale} rows and '
                             f'{grid[1] * scale} columns; choose a scale that divides the grid')
        self.grid = grid
        self.embed = nn.Linear(in_channels, embed_dims)
        self.register_buffer('pos_embed', sincos_position_table(*grid, embed_dims)[None])
        self.blocks = nn.Sequential(*(TransformerEncoderLayer(
            embed_dims, num_heads, int(embed_dims * mlp_ratio), norm_cfg=norm_cfg) for _ in range(depth)))
        self.norm = build_norm_layer(norm_cfg, embed_dims)
        layers, channels = rescaling_layers(scale, embed_dims)
        self.pred = nn.Sequential(*layers, nn.Conv2d(channels, out_channels, kernel_size=1))

    def init_weights(self) -> None:
        """Xavier-uniform linear layers with zero biases; convolutions keep PyTorch's initial weights."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def predict(self, patches: Tensor) -> Tensor:
        """(B, h·w, D) → (B, scale·h · scale·w, C), row-major."""
        maps = self.norm(patches).transpose(1, 2).unflatten(2, self.grid)  # (B, D, h, w)
        return self.pred(maps.contiguous()).flatten(2).transpose(1, 2)


class VisibleScaleDecoder(ScaleDecoder):
    """Decodes class token and visible patches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed.out_features))

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, ids_restore: Tensor) -> Tensor:
        """(B, 1 + visible, in) → (B, tokens of the scale, out). The class token attends but is not predicted from."""
        embedded = self.embed(tokens)
        patches = insert_mask_tokens(embedded[:, 1:], self.mask_token, ids_restore) + self.pos_embed
        whole = torch.cat([embedded[:, :1], patches.to(embedded.dtype)], dim=1)  # (B, 1 + N, D)
        return self.predict(self.blocks(whole)[:, 1:])


class DenseScaleDecoder(ScaleDecoder):
    """Decodes a whole map."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in, h, w) → (B, tokens of the scale, out)."""
        if maps.shape[-2:] != self.grid:
            raise ValueError(f'a map of {tuple(maps.shape[-2:])} came to a decoder for {self.grid}; set `grids`')
        tokens = self.embed(maps.flatten(2).transpose(1, 2))  # (B, in, h, w) → (B, N, D)
        return self.predict(self.blocks(tokens + self.pos_embed))


class MultiScaleNeck(BaseModule):
    """One decoder a scale. Arguments as in `LocalMIMNeck`."""

    decoder_class: type[ScaleDecoder]

    def __init__(self,
                 in_channels: int | Sequence[int],
                 scales: Sequence[float] = (4, 2, 1, 0.5),
                 grids: int | Sequence[int | tuple[int, int]] = 14,
                 out_channels: int | Sequence[int] = 27,
                 embed_dims: int | Sequence[int] = 256,
                 num_heads: int = 8,
                 depth: int = 1,
                 mlp_ratio: float = 4.,
                 norm_cfg: dict | None = None):
        super().__init__()
        self.scales = tuple(scales)

        def each(name: str, value) -> list:
            values = [value] * len(self.scales) if isinstance(value, int) else list(value)
            if len(values) != len(self.scales):
                raise ValueError(f'{name} has {len(values)} entries for {len(self.scales)} scales; '
                                 'give one number for all, or one a scale')
            return values

        shapes = [(grid, grid) if isinstance(grid, int) else tuple(grid) for grid in each('grids', grids)]
        sizes = zip(each('in_channels', in_channels), each('out_channels', out_channels), shapes, self.scales,
                    each('embed_dims', embed_dims))
        norm_cfg = norm_cfg or {'type': 'LN', 'eps': 1e-6}
        self.decoders = ModuleList(
            self.decoder_class(*size, num_heads, depth, mlp_ratio, norm_cfg) for size in sizes)

    def check_taps(self, taps: Sequence[Tensor | None]) -> None:
        """Raise ValueError unless there is one tap a decoder."""
        if len(taps) != len(self.decoders):
            raise ValueError(f'{len(taps)} taps came to {len(self.decoders)} decoders; '
                             'give `taps` of the encoder and `scales` of the neck the same length')


@MODELS.register_module()
class LocalMIMNeck(MultiScaleNeck):
    """Decoders for an encoder that sees visible tokens only (`VisiblePatchViT`, the host's `MAEViT`).

    Args:
        in_channels: width of the taps; one for all or one a scale, as with all lists here.
        scales: resolution of the predictions, as a multiple of the grid: a power of two each.
        grids: rows and columns of patches (one number: as many rows as columns).
        out_channels: numbers predicted a token, `HOGTarget.out_channels`.
        embed_dims: width of the decoders.
        num_heads: heads of their attention.
        depth: blocks of a decoder.
        mlp_ratio: hidden width of their MLPs as a multiple of ``embed_dims``.
        norm_cfg: of their blocks.
    """

    decoder_class = VisibleScaleDecoder

    def forward(self, taps: Sequence[Tensor | None], ids_restore: Tensor) -> list[Tensor | None]:
        """Decode every tap: (B, 1 + visible, in) → (B, tokens, out); None stays None, its decoder is not run."""
        self.check_taps(taps)
        return [None if tap is None else decoder(tap, ids_restore) for decoder, tap in zip(self.decoders, taps)]


@MODELS.register_module()
class LocalMIMDenseNeck(MultiScaleNeck):
    """Decoders for an encoder that keeps masked tokens (`LocalMIMSwin`); arguments as above.

    Each map has a grid of its own. The authors' Swin decoders are of this kind with ``scales=(1, 1, 1, 1)``.
    """

    decoder_class = DenseScaleDecoder

    def forward(self, maps: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Decode every map: (B, in, h, w) → (B, tokens, out); None stays None, its decoder is not run."""
        self.check_taps(maps)
        return [None if tap is None else decoder(tap) for decoder, tap in zip(self.decoders, maps)]
