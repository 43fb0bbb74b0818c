"""Layer grafting with VICReg instead of MoCo v3 on top (Jiang et al., ICLR 2023, Table 4)."""

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor

from mm_graft.models.selfsup.grafted_mocov3 import project_views
from mm_graft.models.views import pick_views
from mm_graft.registry import MODELS


@MODELS.register_module()
class GraftedVICReg(BaseSelfSupervisor):
    """VICReg whose encoder starts from a checkpoint of masked image modeling (``mm_graft.LoadBackboneHook``).

    No predictor and no momentum encoder; the projector is new. As for ``GraftedMoCoV3``, the optimizer constructor sets
    the learning rates of the layers. In the authors' code (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``) the
    projector has three layers of 8192 and, unlike VICReg's own, ends in a batch norm without affine parameters.

    Args:
        backbone: a ViT that gives the class token after the final norm, e.g. ``mm_graft.GraftViT``.
        neck: the projector.
        head: the loss of two projected views; ``mm_graft.VICRegLoss``.
    """

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """The three terms of two views, each (B, 3, H, W)."""
        views = torch.cat(pick_views(inputs, 0, 1))  # 2 × (B, 3, H, W) → (2B, 3, H, W)
        return self.head(*project_views(self.neck, self.backbone(views)[-1]))
