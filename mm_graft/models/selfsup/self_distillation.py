"""Self-distillation with multi-crop, hidden patches and KoLeo: DINO, iBOT and DINOv2 as one method of parts.

    teacher  average of the student; sees the global views, whole       → distributions over K prototypes
    student  sees the global views with hidden patches, and local views → scores
    loss     class tokens across views + hidden patches within a view + KoLeo of the class tokens

Equations and sources: :mod:`mm_graft.models.losses.self_distillation`, :mod:`mm_graft.models.losses.koleo`.
"""

from itertools import groupby

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from mm_graft.equations import at_least_float32
from mm_graft.models.losses.koleo import koleo
from mm_graft.models.losses.self_distillation import class_cross_entropy, patch_cross_entropy
from mm_graft.models.masked_input import check_grid, check_tokens, encode_masked, own_mask_token
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.run_position import run_iteration, run_length
from mm_graft.registry import MODELS

CENTERING = {'type': 'mm_graft.Centering', 'momentum': 0.9}


def warmed_up(iteration: int, warmup: float, start: float, end: float) -> float:
    """From ``start`` in a straight line to ``end`` at iteration ``warmup``, where it stays."""
    return end if iteration >= warmup else start + (end - start) * iteration / warmup


class TeacherTemperature(nn.Module):
    """The teacher's temperature at the running Runner's iteration: a linear warm-up, then constant.

    Args:
        start: at the first iteration.
        end: after the warm-up.
        warmup: share of the run; 30 of 100 epochs are 0.3. DINO counts whole epochs, DINOv2 iterations, as here.
        max_iters: iterations of the run; None: of the Runner.
    """

    def __init__(self, start: float = 0.04, end: float = 0.07, warmup: float = 0.3,
                 max_iters: int | None = None) -> None:
        super().__init__()
        if not (start > 0 and end > 0):
            raise ValueError(f"the teacher's temperatures {start} and {end} must be positive; its authors take 0.04 to "
                             '0.07')
        if not 0 <= warmup <= 1:
            raise ValueError(f'warmup={warmup} is a share of the run; choose one in [0, 1], as 0.3')
        self.start, self.end, self.warmup, self.max_iters = start, end, warmup, max_iters

    def forward(self) -> float:
        """The temperature now."""
        if self.start == self.end or not self.warmup:
            return self.end
        return warmed_up(run_iteration(), self.warmup * run_length(self.max_iters), self.start, self.end)


@MODELS.register_module()
class SelfDistillation(HasMomentumEncoder, BaseSelfSupervisor):
    """DINO (``mask_generator=None, koleo_weight=0``), iBOT (with masks) or DINOv2 (and KoLeo), on any ViT.

    Where the encoder starts (``mm_graft.LoadBackboneHook``), which layers learn how fast (stages, layer decay,
    FreezeOut, a frozen prefix) and an anchor are set as for any algorithm; heads stand at the last depth. The teacher,
    an average of encoder and heads, is the better encoder: ``--branch momentum`` of the evaluators. It runs in eval
    mode.

    ``teacher_entropy`` in the log is that of the class targets, in nats: at log K the teacher says nothing, at 0 one
    thing of all images. ``loss_class`` less this entropy is what the student can still learn.

    Against the authors' code: the runs here clip the norm of all gradients together (DINO and iBOT clip that of each
    parameter); under accumulated gradients the center moves with every part of a batch.

    Args:
        backbone: a ViT with a class token that gives all tokens (``out_type='raw'``): ``mm_graft.GraftViT``,
            ``mm_graft.TimmViT``, ``mm_graft.ConMIMViT`` or the host's.
        head: ``mm_graft.DINOHead``; ``in_channels`` is the encoder's width if left out.
        patch_head: of the patches; None: ``head`` (iBOT, DINOv2's ViT-L/16), a head of its own for DINOv2's large runs.
        mask_generator: what the student does not see of the global views, e.g. ``mm_graft.SpreadBlockMask``; None: no
            patch loss.
        targets: how scores of the teacher become distributions: ``mm_graft.Centering`` or ``mm_graft.SinkhornKnopp``.
        teacher_temperature: arguments of :class:`TeacherTemperature`.
        patch_temperature: the same for patches; None: as ``teacher_temperature``. iBOT warms up the patches alone.
        student_temperature: τ_s.
        patch_weight: of the patch loss.
        koleo_weight: of KoLeo, summed over the global views; DINOv2: 0.1.
        num_global_views: how many views are global; they come first.
        momentum: of the teacher at the first iteration; rises to ``end_momentum`` along half a cosine.
        end_momentum: at the end.
        kwargs: ``data_preprocessor`` and ``init_cfg`` of the host's ``BaseSelfSupervisor``.
    """

    def __init__(self, backbone: dict, head: dict, patch_head: dict | None = None, mask_generator: dict | None = None,
                 targets: dict = CENTERING, teacher_temperature: dict | None = None,
                 patch_temperature: dict | None = None, student_temperature: float = 0.1, patch_weight: float = 1.0,
                 koleo_weight: float = 0.0, num_global_views: int = 2, momentum: float = 0.996,
                 end_momentum: float = 1.0, **kwargs) -> None:
        super().__init__(backbone, **kwargs)
        if mask_generator is None and (patch_head or patch_temperature):
            raise ValueError('patch_head and patch_temperature are of hidden patches, but there is no mask_generator')
        if min(patch_weight, koleo_weight) < 0 or student_temperature <= 0:
            raise ValueError(f'patch_weight={patch_weight}, koleo_weight={koleo_weight} must be ≥ 0 and '
                             f'student_temperature={student_temperature} > 0')
        self.mask_generator = None if mask_generator is None else MODELS.build(mask_generator)
        check_tokens(self.backbone)
        check_grid(self.backbone, self.mask_generator)
        self.mask_token = own_mask_token(self.backbone, self.mask_generator is not None)
        width = {'in_channels': self.backbone.embed_dims}
        self.head = MODELS.build({**width, **head})
        self.patch_head = None if patch_head is None else MODELS.build({**width, **patch_head})
        self._build_targets(targets, teacher_temperature or {}, patch_temperature)
        self.student_temperature = student_temperature
        self.patch_weight, self.koleo_weight = patch_weight, koleo_weight
        self.num_global_views = num_global_views
        parts = ['backbone', 'head'] + ([] if patch_head is None else ['patch_head'])
        self.momentum_encoder = self.follow(*parts, momentum=momentum, end_momentum=end_momentum)

    def _build_targets(self, targets: dict, temperature: dict, patch_temperature: dict | None) -> None:
        self.temperature, self.targets = TeacherTemperature(**temperature), MODELS.build(
            {**targets, 'channels': self.head.out_channels})
        self.patch_temperature = self.patch_targets = None
        if self.mask_generator is not None:
            self.patch_temperature = TeacherTemperature(**(temperature if patch_temperature is None
                                                           else patch_temperature))
            self.patch_targets = MODELS.build({**targets, 'channels': (self.patch_head or self.head).out_channels})

    def depth_overrides(self) -> dict[str, int]:
        """A mask token of this model belongs to the stem."""
        return {'mask_token': 0}

    def train(self, mode: bool = True) -> 'SelfDistillation':
        """Set the mode; the teacher stays in eval mode (drop path)."""
        super().train(mode)
        self.momentum_encoder.eval()
        return self

    @torch.no_grad()
    def teach(self, images: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Targets of class tokens (G·B, K) and of patches at ``places`` (M, K) of global views (G·B, C, H, W)."""
        backbone, head, *patch_head = self.momentum_encoder.module
        tokens = backbone(images)[-1]
        classes = self.targets(head(tokens[:, 0]), self.temperature())
        if places is None:
            return classes, None
        scores = (patch_head or [head])[0](self.patches(tokens, places))
        return classes, self.patch_targets(scores, self.patch_temperature())

    def hide(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Masks (B, N) of ``count`` images, and the places (M,) of hidden patches among those of all.

        Drawn where the CPU can count them: a device would have to be waited for.
        """
        mask = self.mask_generator(count, 'cpu')
        return tuple(x.to(device, non_blocking=True) for x in (mask, mask.flatten().nonzero().squeeze(1)))

    def patches(self, tokens: Tensor, places: Tensor) -> Tensor:
        """The patches (M, D) at ``places`` of the tokens (B, P + N, D) of all images."""
        return tokens[:, self.backbone.num_extra_tokens:].flatten(0, 1).index_select(0, places)

    def encode(self, images: Tensor, mask: Tensor | None) -> Tensor:
        """The student's tokens (B, P + N, D) of images of which ``mask`` hides patches."""
        if mask is None:
            return self.backbone(images)[-1]
        return encode_masked(self.backbone, images, mask, self.mask_token)

    def encode_local(self, views: list[Tensor]) -> list[Tensor]:
        """The student's class tokens (n·B, D) of local views (B, C, h, w); neighbors of one shape in one batch."""
        return [self.encode(torch.cat(list(group)), None)[:, 0]
                for _, group in groupby(views, key=lambda view: view.shape)]

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """Terms ``loss_class``, ``loss_patch``, ``loss_koleo`` of views (B, C, H, W), global ones first."""
        views = check_views(inputs, self.num_global_views)
        whole = torch.cat(views[:self.num_global_views])  # G × (B, C, H, W) → (G·B, C, H, W)
        mask, places = (None, None) if self.mask_generator is None else self.hide(len(whole), whole.device)
        targets, patch_targets = self.teach(whole, places)

        tokens = self.encode(whole, mask)
        classes = [tokens[:, 0], *self.encode_local(views[self.num_global_views:])]
        scores = at_least_float32(self.head(torch.cat(classes)))  # (V·B, K)
        by_view = [x.unflatten(0, (-1, len(views[0]))) for x in (scores, targets)]
        terms = {'loss_class': class_cross_entropy(*by_view, self.student_temperature)}
        if mask is not None:
            scores = at_least_float32((self.patch_head or self.head)(self.patches(tokens, places)))  # (M, K)
            terms['loss_patch'] = self.patch_weight * patch_cross_entropy(
                scores, patch_targets, mask, self.student_temperature)
        if self.koleo_weight:
            terms['loss_koleo'] = self.koleo_weight * sum(map(koleo, classes[0].chunk(self.num_global_views)))
        return {**terms, 'teacher_entropy': torch.special.entr(targets).sum(1).mean()}


def check_views(inputs: list[Tensor], num_global: int) -> list[Tensor]:
    """The views themselves."""
    given = f'{len(inputs)} view(s)' if isinstance(inputs, list | tuple) else f'one {type(inputs).__name__}'
    if not isinstance(inputs, list | tuple) or len(inputs) < max(2, num_global):
        raise ValueError(f'{given} of each image came to a method that compares at least two, {num_global} of them '
                         'global; use MultiView in the pipeline, or mm_graft.MultiCropPreprocessor')
    shapes = {tuple(view.shape) for view in inputs[:num_global]}
    if len(shapes) > 1:
        raise ValueError(f'global views of the shapes {sorted(shapes)} must be of one size')
    return list(inputs)
