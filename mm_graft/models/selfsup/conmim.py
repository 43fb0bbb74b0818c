"""ConMIM: masked image modeling with denoising contrast (Yi et al., ICLR 2023)."""

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mm_graft.models.masked_input import check_grid, check_tokens, encode_masked, own_mask_token
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.views import pick_views
from mm_graft.registry import MODELS

CONTRAST = {'type': 'mm_graft.DenoisingContrastLoss', 'temperature': 0.1}
TEACHER = {'momentum': 0.996, 'end_momentum': 1.0}


@MODELS.register_module()
class ConMIM(HasMomentumEncoder, BaseSelfSupervisor):
    """ConMIM: each hidden patch of one view is contrasted with all patches of another view of the image.

    The student encodes the masked view, the teacher the full view of the same crop and flip; both project every token,
    the class token with them, and ``contrast`` compares the patches. The teacher is an EMA of the student's parameters
    that is updated after every optimizer step. It stays in training mode, with its own batch statistics and drop path.
    ``TencentARC/ConMIM@4263955`` (``engine_for_pretraining.py``), paper eq. 3.

    Args:
        backbone: ``mm_graft.ConMIMViT``, ``mm_graft.TimmViT`` with ``with_mask_token=True``, or a plain ViT of the
            host, whose mask token is then a parameter of this model. Must return class and patch tokens
            (``out_type='raw'``).
        neck: projector of flattened tokens, called with a tuple as the host's necks are: ``NonLinearNeck``. Batch
            norm in it takes its statistics over the batch of one device.
        mask_generator: makes the masks of a batch; None: nothing is hidden and every patch is a query.
        contrast: terms of the loss and the log, of two token maps and a mask; see
            ``mm_graft.models.losses.denoising_contrast``.
        teacher: ``CosineMomentumEMA`` arguments, that is ``momentum`` and ``end_momentum``; None: the student itself,
            without gradient.
        student_view: which view of the data is masked.
        teacher_view: which view is the dictionary.
    """

    def __init__(self, backbone: dict, neck: dict, mask_generator: dict | None, contrast: dict = CONTRAST,
                 teacher: dict | None = TEACHER, student_view: int = 0, teacher_view: int = 1,
                 data_preprocessor: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(backbone, neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.contrast = MODELS.build(contrast)
        self.mask_generator = MODELS.build(mask_generator) if mask_generator is not None else None
        self.student_view = student_view
        self.teacher_view = teacher_view
        check_tokens(self.backbone)
        check_grid(self.backbone, self.mask_generator)
        self.mask_token = own_mask_token(self.backbone, self.mask_generator is not None)
        self.momentum_encoder = None if teacher is None else self.follow('backbone', 'neck', **teacher)

    def depth_overrides(self) -> dict[str, int]:
        """A mask token of this model belongs to the stem."""
        return {'mask_token': 0}

    def project(self, tokens: Tensor, neck: nn.Module) -> Tensor:
        """Projected patch tokens (B, N, C) of prefix (class token, …) and patches (B, P + N, D), as one batch."""
        projected = neck((tokens.flatten(0, 1), ))[0]  # (B, P + N, D) → (B·(P + N), C)
        return projected.unflatten(0, tokens.shape[:2])[:, self.backbone.num_extra_tokens:]

    def queries(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student's projections (B, N, C), and which are queries: those of hidden patches, or all."""
        if self.mask_generator is not None:
            mask = self.mask_generator(len(images), images.device)
            return self.project(encode_masked(self.backbone, images, mask, self.mask_token), self.neck), mask
        projected = self.project(self.backbone(images)[-1], self.neck)
        return projected, torch.ones(projected.shape[:2], dtype=torch.bool, device=images.device)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """The teacher's projections (B, N, C) of full images."""
        backbone, neck = (self.backbone, self.neck) if self.momentum_encoder is None else self.momentum_encoder.module
        return self.project(backbone(images)[-1], neck)

    def loss(self, inputs: list[Tensor], data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Terms of the loss of paired views, each (B, 3, H, W)."""
        masked, full = pick_views(inputs, self.student_view, self.teacher_view)
        key = self.keys(full)
        query, mask = self.queries(masked)
        return self.contrast(query, key, mask)
