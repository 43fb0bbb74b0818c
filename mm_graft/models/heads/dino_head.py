"""The head of self-distillation: an MLP, a point on the sphere, its cosines with K prototypes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.registry import MODELS


class WeightNormLinear(nn.Module):
    """Scores g · cos(x, v) of points x on the sphere with K prototypes v; parameters have the authors' names.

    PyTorch's ``weight_norm`` keeps the product as an attribute, which a momentum encoder cannot copy.

    Args:
        in_channels: of a point.
        out_channels: prototypes K.
        train_norms: whether the lengths g, 1 at the start, are learned.
    """

    def __init__(self, in_channels: int, out_channels: int, train_norms: bool) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(nn.Linear(in_channels, out_channels, bias=False).weight.detach().clone())
        self.weight_g = nn.Parameter(torch.ones(out_channels, 1), requires_grad=train_norms)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_channels) → (…, K)."""
        return F.linear(x, self.weight_g * F.normalize(self.weight_v, dim=1))


def gelu_mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with GELU between them, weights normal with σ = 0.02 cut at ±2, biases 0."""
    layers = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.GELU()]
    return nn.Sequential(*layers[:-1])


@MODELS.register_module()
class DINOHead(nn.Module):
    """MLP, L2 norm, weight-normalized last layer, without batch norm.

    ``facebookresearch/dino@7c446df`` (``vision_transformer.py``), whose state dicts fit. Its default keeps the lengths
    of the prototypes at 1, and so do we; iBOT's and DINOv2's large runs learn them (``train_norms=True``).

    Args:
        in_channels: width of the encoder.
        out_channels: prototypes K.
        hid_channels: width of the hidden layers.
        bottleneck_channels: dimensions of the sphere.
        num_layers: of the MLP.
        train_norms: whether the lengths of the prototypes are learned.
    """

    def __init__(self, in_channels: int, out_channels: int = 65536, hid_channels: int = 2048,
                 bottleneck_channels: int = 256, num_layers: int = 3, train_norms: bool = False) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f'num_layers={num_layers}; the head needs at least one, its authors take 3')
        self.out_channels = out_channels
        self.mlp = gelu_mlp([in_channels, *[hid_channels] * (num_layers - 1), bottleneck_channels])
        self.last_layer = WeightNormLinear(bottleneck_channels, out_channels, train_norms)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (M, K) of tokens (M, in_channels)."""
        x = self.mlp(x)
        return self.last_layer(F.normalize(x, dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12))
