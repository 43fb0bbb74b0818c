"""A pyramid of maps from the last map of a plain ViT (ViTDet; Li et al., ECCV 2022, arXiv 2203.16527, §3)."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Strides 1/4 … 1/32 out of one map of stride 1/16, by deconvolution, identity and pooling; no lateral paths.

    Each scale: up- or down-sampling, 1×1 convolution, norm, 3×3 convolution, norm. One more level of stride 1/64 is
    every second pixel of the coarsest, as for Mask R-CNN's proposals.

    Args:
        in_channels: width of the ViT.
        out_channels: of every level.
        num_outs: levels, from 4 on.
        norm_cfg: of the norms; mmpretrain's ``LN2d`` is the paper's.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, num_outs: int = 5,
                 norm_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if num_outs < 4:
            raise ValueError(f'num_outs={num_outs}, but the pyramid has four scales; choose 4 or more')
        norm_cfg = norm_cfg or dict(type='LN2d')
        half, quarter = in_channels // 2, in_channels // 4
        self.samplers = nn.ModuleList([
            nn.Sequential(nn.ConvTranspose2d(in_channels, half, 2, 2), build_norm_layer(norm_cfg, half), nn.GELU(),
                          nn.ConvTranspose2d(half, quarter, 2, 2)),
            nn.ConvTranspose2d(in_channels, half, 2, 2), nn.Identity(), nn.MaxPool2d(2, 2)])
        self.outputs = nn.ModuleList([
            nn.Sequential(nn.Conv2d(width, out_channels, 1, bias=False), build_norm_layer(norm_cfg, out_channels),
                          nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                          build_norm_layer(norm_cfg, out_channels))
            for width in (quarter, half, in_channels, in_channels)])
        self.num_outs = num_outs

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The last map (B, D, h, w) → maps of 4, 2, 1, 1/2 … times its sides, each (B, out_channels, …)."""
        maps = [output(sample(inputs[-1])) for sample, output in zip(self.samplers, self.outputs)]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], 1, 2))
        return tuple(maps)
