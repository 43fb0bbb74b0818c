r"""Layer grafting: MoCo v3 on top of an encoder that masked image modelling has trained.

The paper's step ii (Jiang et al., ICLR 2023, §2.4). For two views of each image,

.. math::
    L = \mathrm{ctr}(q_1, k_2) + \mathrm{ctr}(q_2, k_1), \qquad
    \mathrm{ctr}(q, k) = -\frac{2\tau}{N} \sum_i \log \frac{\exp(q_i k_i / \tau)}{\sum_j \exp(q_i k_j / \tau)},

with q from encoder, projector and predictor, and k from the slowly moving encoder and projector.
"""

import torch
from mmpretrain.models.selfsup import MoCoV3
from torch import Tensor, nn

from mm_graft.checkpoints import load_backbone
from mm_graft.models.ema import CosineMomentumEMA
from mm_graft.registry import MODELS


@MODELS.register_module()
class GraftedMoCoV3(MoCoV3):
    """MoCo v3 whose encoder and momentum encoder both start from a checkpoint of masked image modelling.

    Projector and predictor are new. Which layers learn how fast is the business of the optimizer constructor
    (``mm_graft.GraftOptimWrapperConstructor``), a pull towards the checkpoint that of ``mm_graft.WeightAnchor``.

    Against the host's ``MoCoV3``: both views go through each encoder in one forward (no layer of a ViT mixes images, so
    this is exact), while projector and predictor still see each view as a batch of its own, because their batch norm
    does mix; the EMA makes one foreach call without a host sync; ``momentum`` is the paper's m. Against the authors'
    code: the loss, the order of events and the loading are the same; the missing optimizer step is the Runner's.

    Args:
        backbone: a ViT that gives the class token after the final norm, e.g. ``mm_graft.GraftViT``.
        neck: the projector.
        head: the host's ``MoCoV3Head``; its loss weight is 2τ.
        mim_checkpoint: file with the encoder's weights, in any layout that ``mm_graft.checkpoints`` knows. None trains
            MoCo v3 from scratch.
        momentum: m at the first iteration; it rises to 1 along a cosine.
        kwargs: as for the host's ``BaseSelfSupervisor``.

    Raises:
        mm_graft.checkpoints.CheckpointError: from :meth:`init_weights`, if the file does not fit.
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, mim_checkpoint: str | None = None,
                 momentum: float = 0.99, **kwargs) -> None:
        super().__init__(backbone, neck, head, **kwargs)
        self.momentum_encoder = CosineMomentumEMA(self.base_encoder, momentum)
        self.mim_checkpoint = mim_checkpoint

    @property
    def base_encoder(self) -> nn.Sequential:
        """Backbone and projector: what the momentum encoder follows."""
        return nn.Sequential(self.backbone, self.neck)

    def init_weights(self) -> None:
        """Initialise everything, load the checkpoint, and start the momentum encoder as a copy."""
        super().init_weights()
        if self.mim_checkpoint is not None:
            load_backbone(self.backbone, self.mim_checkpoint)
        self.momentum_encoder.copy_from(self.base_encoder)

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """The symmetric contrastive loss of two views, each (B, 3, H, W)."""
        views = torch.cat(inputs[:2])  # 2 × (B, 3, H, W) → (2B, 3, H, W)
        q1, q2 = project_views(self.backbone, self.neck, views)
        with torch.no_grad():
            self.momentum_encoder.update_parameters(self.base_encoder)
            k1, k2 = project_views(*self.momentum_encoder.module, views)
        return {'loss': self.head.loss(q1, k2) + self.head.loss(q2, k1)}

    def on_freeze(self, frozen_depth: int) -> None:
        """Let the EMA drop parameters that are frozen and have arrived; called when layers were frozen."""
        self.momentum_encoder.forget_pairs()


def project_views(backbone: nn.Module, neck: nn.Module, views: Tensor) -> tuple[Tensor, Tensor]:
    """Encode both views in one batch, project each as a batch of its own: (2B, 3, H, W) → 2 × (B, C)."""
    first, second = backbone(views)[-1].chunk(2)
    return neck((first, ))[0], neck((second, ))[0]
