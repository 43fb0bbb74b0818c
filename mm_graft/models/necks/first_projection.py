"""The first layer of a contrastive projector, kept for fine-tuning on few labels."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mm_graft.registry import MODELS


@MODELS.register_module()
class FirstProjection(BaseModule):
    """One linear layer without bias between encoder and classifier, D → hidden.

    Layer Grafted Pre-training fine-tunes on 10 % of the labels from the first projector layer, "following SimCLR v2";
    its code (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``) keeps neither the batch norm nor the ReLU behind
    it, so this and the new classifier make one linear map. ``mm_graft.LoadBackboneHook(projection='neck.layer')``
    fills it.

    Args:
        in_channels: D.
        out_channels: hidden width of the projector.
    """

    def __init__(self, in_channels: int, out_channels: int = 4096, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.layer = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The last feature (B, D) → (B, hidden), as a tuple of one."""
        return (self.layer(features[-1]),)
