r"""The multi-task baseline of layer grafting: masked image modeling and contrastive learning at once, on one encoder.

.. math:: L = w_\mathrm{MIM} \, L_\mathrm{MIM}(x) + w_\mathrm{CL} \, L_\mathrm{CL}(x_1, x_2)

with MAE's loss on a barely augmented image and MoCo v3's on two views of it (Jiang et al., ICLR 2023, §2.2: "added
together as the final loss"). The authors released no code for it.
"""

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor

from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.selfsup.grafted_mocov3 import project_views, symmetric_loss
from mm_graft.registry import MODELS

VIEWS = 3


@MODELS.register_module()
class JointMIMCL(HasMomentumEncoder, BaseSelfSupervisor):
    """MAE and MoCo v3 on one encoder, their losses added.

    Every image comes three times: two contrastive views and one with a crop and a flip only, for MAE. Neither the
    weights of the sum nor what becomes of the patch projection is published; here both weights are 1 unless a config
    says otherwise, and everything but the position embedding trains (MoCo v3 alone would keep the projection at its
    random start).

    :meth:`contrastive_loss` and :meth:`pixel_loss` give one loss each, and :meth:`loss` one weighted term each under
    the names ``loss_contrast`` and ``loss_pixels``, so that their gradients can be taken apart
    (``mm_graft.GradientConflictHook``, ``mm_graft analyze conflict``). The cosine does not depend on the weights.

    Args:
        backbone: an encoder that hides patches unless it is called with ``mask=None``, and then gives the class token:
            ``MAEViT`` with ``out_type='cls_token'``.
        neck: MoCo v3's projector.
        head: the host's ``MoCoV3Head``; its loss weight is 2τ.
        decoder: the host's ``MAEPretrainDecoder``.
        pixel_head: the host's ``MAEPretrainHead``.
        momentum: m of the momentum encoder at the first iteration; it rises to 1 along a cosine.
        contrast_weight: w_CL.
        pixel_weight: w_MIM.
    """

    def __init__(self, backbone: dict, neck: dict, head: dict, decoder: dict, pixel_head: dict, momentum: float = 0.99,
                 contrast_weight: float = 1.0, pixel_weight: float = 1.0, **kwargs) -> None:
        if contrast_weight < 0 or pixel_weight < 0:
            raise ValueError(f'contrast_weight={contrast_weight} and pixel_weight={pixel_weight} must be non-negative')
        super().__init__(backbone, neck, head, **kwargs)
        if getattr(self.backbone, 'out_type', None) != 'cls_token':
            raise ValueError(f"{type(self.backbone).__name__} must give the class token to the projector; use MAEViT "
                             "with out_type='cls_token'")
        self.decoder = MODELS.build(decoder)
        self.pixel_head = MODELS.build(pixel_head)
        self.contrast_weight = contrast_weight
        self.pixel_weight = pixel_weight
        self.momentum_encoder = self.follow('backbone', 'neck', momentum=momentum, first=1)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The class token (B, D) of whole images."""
        return self.backbone(inputs, mask=None)

    def contrastive_loss(self, first: Tensor, second: Tensor) -> Tensor:
        """MoCo v3's symmetric loss of two views, each (B, 3, H, W)."""
        views = torch.cat((first, second))  # 2 × (B, 3, H, W) → (2B, 3, H, W)
        queries = project_views(self.neck, self.backbone(views, mask=None)[-1])
        with torch.no_grad():
            backbone, neck = self.momentum_encoder.module
            keys = project_views(neck, backbone(views, mask=None)[-1])
        return symmetric_loss(self.head, queries, keys)

    def pixel_loss(self, images: Tensor) -> Tensor:
        """MAE's loss of images (B, 3, H, W) under a random mask."""
        latent, mask, ids_restore = self.backbone(images)
        return self.pixel_head.loss(self.decoder(latent, ids_restore), images, mask)

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """Both weighted terms for [first view, second view, image], each (B, 3, H, W)."""
        if not isinstance(inputs, list | tuple) or len(inputs) != VIEWS:
            raise ValueError(f'{type(inputs).__name__} of length {len(inputs)} as inputs; give two views and one image '
                             'by MultiView(num_views=[1, 1, 1])')
        return {'loss_contrast': self.contrast_weight * self.contrastive_loss(*inputs[:2]),
                'loss_pixels': self.pixel_weight * self.pixel_loss(inputs[2])}
