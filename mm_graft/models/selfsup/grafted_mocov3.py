r"""Layer grafting: MoCo v3 on top of an encoder that masked image modeling has trained.

The paper's step ii (Jiang et al., ICLR 2023, §2.4). For two views of each image,

.. math::
    L = \mathrm{ctr}(q_1, k_2) + \mathrm{ctr}(q_2, k_1), \qquad
    \mathrm{ctr}(q, k) = -\frac{2\tau}{N} \sum_i \log \frac{\exp(q_i k_i / \tau)}{\sum_j \exp(q_i k_j / \tau)},

with q from encoder, projector and predictor, and k from the momentum encoder and its projector.
"""

import torch
from mmpretrain.models.selfsup import MoCoV3
from torch import Tensor, nn

from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.shared_prefix import encode_both
from mm_graft.models.views import pick_views
from mm_graft.registry import MODELS


@MODELS.register_module()
class GraftedMoCoV3(HasMomentumEncoder, MoCoV3):
    """MoCo v3 whose encoder and momentum encoder both start from a checkpoint of masked image modeling.

    ``mm_graft.LoadBackboneHook`` loads it; projector and predictor are new. The learning rates of the layers are
    set by the optimizer constructor (``mm_graft.GraftOptimWrapperConstructor``), a penalty on the distance from the
    checkpoint by ``mm_graft.WeightAnchor``.

    Against the host's ``MoCoV3``: both views go through each encoder in one forward (no layer of a ViT mixes images, so
    this is exact), while projector and predictor still see each view as a batch of its own, because their batch norm
    does mix; a prefix that is frozen, and equal in both encoders, runs once for both (exact, see
    :mod:`mm_graft.models.shared_prefix`); the EMA makes one foreach call without a host sync; ``momentum`` is the
    paper's m. Against the authors' code: the loss, the order of events and the loading are the same.

    Args:
        backbone: a ViT that gives the class token after the final norm, e.g. ``mm_graft.GraftViT``.
        neck: the projector.
        head: the host's ``MoCoV3Head``; its loss weight is 2τ.
        momentum: m at the first iteration; it rises to 1 along a cosine.
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, momentum: float = 0.99, **kwargs) -> None:
        super().__init__(backbone, neck, head, **kwargs)
        self.momentum_encoder = self.follow('backbone', 'neck', momentum=momentum, first=1)

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """The symmetric contrastive loss of two views, each (B, 3, H, W)."""
        views = torch.cat(pick_views(inputs, 0, 1))  # 2 × (B, 3, H, W) → (2B, 3, H, W)
        features, targets = encode_both(self.backbone, self.momentum_encoder, views)
        queries = project_views(self.neck, features)
        with torch.no_grad():
            keys = project_views(self.momentum_encoder.module[1], targets)
        return {'loss': symmetric_loss(self.head, queries, keys)}


def project_views(neck: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """Project the features of two views as separate batches: (2B, D) → 2 × (B, C)."""
    first, second = features.chunk(2)
    return neck((first, ))[0], neck((second, ))[0]


def symmetric_loss(head: nn.Module, queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> Tensor:
    """The loss of each view's projections (B, C) with the other view's keys (B, C), added."""
    with queries[0].device:  # where the host makes its labels then: it would copy them there, and wait
        return head.loss(queries[0], keys[1]) + head.loss(queries[1], keys[0])
