"""ConMIM: masked image modelling with denoising contrast (Yi et al., ICLR 2023)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mm_graft.models.masking import replace_hidden
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.views import pick_views
from mm_graft.registry import MODELS

CONTRAST = {'type': 'mm_graft.DenoisingContrastLoss', 'temperature': 0.1}
TEACHER = {'momentum': 0.996, 'end_momentum': 1.0}


@contextmanager
def patches_hidden(patch_embed: nn.Module, mask: Tensor, mask_token: Tensor) -> Iterator[None]:
    """While open, the patches that ``mask`` (B, N) hides leave ``patch_embed`` as the mask token.

    For the host's ViTs, whose patch embedding returns tokens (B, N, D) and the grid.
    """

    def hide(module: nn.Module, inputs: tuple, output: tuple) -> tuple:
        tokens, *rest = output
        return replace_hidden(tokens, mask, mask_token), *rest

    handle = patch_embed.register_forward_hook(hide)
    try:
        yield
    finally:
        handle.remove()


@MODELS.register_module()
class ConMIM(HasMomentumEncoder, BaseSelfSupervisor):
    """ConMIM: the hidden patches of a weak view look themselves up among the patches of a strong view.

    The student encodes the masked view, the teacher the full view of the same crop and flip; both project every token,
    the class token with them, and ``contrast`` compares the patches. The teacher is an EMA of the student's parameters
    that moves after every optimizer step. It stays in training mode, with batch statistics and drop path of its own.
    ``TencentARC/ConMIM@4263955`` (``engine_for_pretraining.py``), paper eq. 3.

    Args:
        backbone: an encoder with ``encode_masked(images, mask)`` (``mm_graft.ConMIMViT``), or a plain ViT of the host,
            whose mask token is then a parameter of this model. Must return class and patch tokens (``out_type='raw'``).
        neck: projector of flattened tokens, called with a tuple as the host's necks are: ``NonLinearNeck``. Batch
            norm in it takes its statistics over the batch of one device.
        mask_generator: makes the masks of a batch; None hides nothing and asks for every patch.
        contrast: terms of the loss and the log, of two token maps and a mask; see
            ``mm_graft.models.losses.denoising_contrast``.
        teacher: ``CosineMomentumEMA`` arguments, that is ``momentum`` and ``end_momentum``; None: the student itself,
            without gradient.
        student_view: which view of the data is masked.
        teacher_view: which view is the dictionary.
        data_preprocessor: as in the host.
        init_cfg: as in the host.

    Raises:
        ValueError: the encoder does not return all tokens or has no mask token, or the masks are of another grid.
    """

    def __init__(self, backbone: dict, neck: dict, mask_generator: dict | None, contrast: dict = CONTRAST,
                 teacher: dict | None = TEACHER, student_view: int = 0, teacher_view: int = 1,
                 data_preprocessor: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(backbone, neck, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.contrast = MODELS.build(contrast)
        self.mask_generator = MODELS.build(mask_generator) if mask_generator is not None else None
        self.student_view = student_view
        self.teacher_view = teacher_view
        self._check_backbone()
        self._own_mask_token()
        self.momentum_encoder = None if teacher is None else self.follow('backbone', 'neck', **teacher)

    def _check_backbone(self) -> None:
        if getattr(self.backbone, 'out_type', None) != 'raw' or getattr(self.backbone, 'cls_token', None) is None:
            raise ValueError(f'{type(self.backbone).__name__} must return the class token and all patch tokens; '
                             "set out_type='raw' and keep the class token")
        grid = getattr(self.mask_generator, 'grid', self.backbone.patch_resolution)
        if tuple(grid) != tuple(self.backbone.patch_resolution):
            raise ValueError(f'masks of {grid[0]} × {grid[1]} patches do not fit an encoder of '
                             f'{self.backbone.patch_resolution[0]} × {self.backbone.patch_resolution[1]}; '
                             'give both the same img_size and patch_size')

    def _own_mask_token(self) -> None:
        if not hasattr(self.backbone, 'encode_masked'):
            if self.mask_generator is None:
                return
            self.mask_token = nn.Parameter(torch.zeros(1, 1, self.backbone.embed_dims))
            nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        elif self.mask_generator is not None and self.backbone.mask_token is None:
            raise ValueError(f'{type(self.backbone).__name__} has no mask token, but patches are to be hidden; '
                             'set with_mask_token=True')
        elif self.mask_generator is None and self.backbone.mask_token is not None:
            self.backbone.mask_token.requires_grad_(False)  # never used: DDP would wait for its gradient

    def depth_overrides(self) -> dict[str, int]:
        """A mask token of this model belongs to the stem."""
        return {'mask_token': 0}

    def project(self, tokens: Tensor, neck: nn.Module) -> Tensor:
        """Projected patch tokens (B, N, C) of class and patch tokens (B, 1 + N, D), projected together."""
        projected = neck((tokens.flatten(0, 1), ))[0]  # (B, 1 + N, D) → (B·(1 + N), C)
        return projected.unflatten(0, tokens.shape[:2])[:, 1:]

    def encode_masked(self, images: Tensor, mask: Tensor) -> Tensor:
        """Class and patch tokens (B, 1 + N, D) of images of which ``mask`` (B, N) hides patches."""
        if hasattr(self.backbone, 'encode_masked'):
            return self.backbone.encode_masked(images, mask)[-1]
        with patches_hidden(self.backbone.patch_embed, mask, self.mask_token):
            return self.backbone(images)[-1]

    def queries(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student's projections (B, N, C), and which of them are queries: what was hidden, or all."""
        if self.mask_generator is not None:
            mask = self.mask_generator(len(images), images.device)
            return self.project(self.encode_masked(images, mask), self.neck), mask
        projected = self.project(self.backbone(images)[-1], self.neck)
        return projected, torch.ones(projected.shape[:2], dtype=torch.bool, device=images.device)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """The teacher's projections (B, N, C) of full images."""
        backbone, neck = (self.backbone, self.neck) if self.momentum_encoder is None else self.momentum_encoder.module
        return self.project(backbone(images)[-1], neck)

    def loss(self, inputs: list[Tensor], data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Terms of the loss of paired views, each (B, 3, H, W).

        Raises:
            ValueError: the data do not give both views in one shape.
        """
        masked, full = pick_views(inputs, self.student_view, self.teacher_view)
        key = self.keys(full)
        query, mask = self.queries(masked)
        return self.contrast(query, key, mask)
