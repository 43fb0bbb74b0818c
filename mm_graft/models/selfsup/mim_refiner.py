"""MIM-Refiner: an instance discrimination head on each of the upper blocks of an encoder that MIM has trained.

Alkin, Miklautz, Hochreiter, Brandstetter (ICLR 2025, arXiv 2402.10093), as ``ml-jku/MIM-Refiner@cc574235995e`` runs it:

    stage i   heads alone, on the frozen encoder         20 epochs, the nearest neighbor
    stage ii  everything, from these heads and queues    20 to 30 epochs, one of the 20 nearest neighbors
    loss      Σ_blocks NNA(head(feature of the block))   mm_graft.models.losses.nearest_neighbor_alignment

The last block is read after the final norm, the others as they leave the block.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from mm_graft.depth import depth_map
from mm_graft.models.momentum_encoder import HasMomentumEncoder
from mm_graft.models.sample_ids import sample_ids, sample_labels
from mm_graft.models.support_queue import SupportQueue
from mm_graft.registry import MODELS


def encode_views(backbone: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """Features (V·B, D) of each tapped block, all images of view 0, of view 1, …, for views (B, 3, H, W).

    Neighboring views of one shape go through the encoder as one batch, which is exact: no layer of a ViT mixes images.
    The backbone gives the class token (B, D) or the patches (B, D, h, w), of which the mean is taken.
    """
    parts = [backbone(torch.cat(list(group))) for _, group in groupby(views, key=lambda view: view.shape)]
    return [torch.cat([_vector(output) for output in tap]) for tap in zip(*parts)]


def _vector(output: Tensor) -> Tensor:
    if output.ndim not in (2, 4):
        raise ValueError(f'the encoder gives {tuple(output.shape)} for a block; set out_type="cls_token" for the class '
                         'token, or out_type="featmap" for the mean of the patches')
    return output if output.ndim == 2 else output.mean((2, 3))  # (B, D, h, w) → (B, D)


@MODELS.register_module()
class MIMRefiner(HasMomentumEncoder, BaseSelfSupervisor):
    """One head for each block in the encoder's ``out_indices``, their losses summed with weight 1.

    Both stages are this class: in stage i the encoder does not train (``train_encoder=False``), stage ii starts from
    encoder, heads and queues of stage i (``mm_graft.LoadBackboneHook`` with ``parts=['heads']``). Learning rates by
    layer, a frozen prefix, an anchor and FreezeOut are set as for any algorithm; the head of a block that FreezeOut has
    frozen is switched off, as it trains nothing any more. Heads have the last depth, so layer decay does not scale
    their learning rate, as in the authors' code.

    Every sample needs its ``sample_idx`` (``PackInputs`` keeps it), since an image must not be its own neighbor. With
    labels, ``acc_neighbor_block…`` in the log is the percentage of neighbors of the same class, which is more telling
    than the loss.

    The average of the encoder is for evaluation alone (``branch='momentum'`` of the evaluators and
    ``encoder='momentum_encoder.module'`` of hooks); it is updated after every optimizer step. A short run needs a
    smaller momentum: with 0.9999, 90 % of the initial encoder remains after 1,000 steps.

    Against the authors' code: look-up and loss in fp32 under autocast; the shifts before a batch norm, whose gradients
    are exactly zero (of the final norm and of every projector's last batch norm), do not train, as Adam would let them
    walk on rounding errors.

    Args:
        backbone: a ViT with ``out_indices`` up to its last block, that gives class tokens (``out_type='cls_token'``) or
            patches (``'featmap'``, of which the mean is taken, as for CrossMAE); e.g. ``mm_graft.GraftViT``.
        head: ``mm_graft.NNAHead``, one for each block; ``in_channels`` is the encoder's width if left out.
        num_global_views: how many of the views are global; they come first.
        momentum: of the averaged encoder, 0.9999 in the authors' runs; None: no average.
        train_encoder: False for stage i; the encoder is then in eval mode and outside autograd.
        kwargs: ``data_preprocessor`` and ``init_cfg`` of the host's ``BaseSelfSupervisor``.
    """

    def __init__(self, backbone: dict, head: dict, num_global_views: int = 2, momentum: float | None = 0.9999,
                 train_encoder: bool = True, **kwargs) -> None:
        super().__init__(backbone, **kwargs)
        if not train_encoder and momentum is not None:
            raise ValueError(f'momentum={momentum} of an encoder that does not train; set momentum=None')
        self.blocks = self._find_blocks()
        width = {'in_channels': self.backbone.embed_dims}
        self.heads = nn.ModuleDict({f'block{block}': MODELS.build({**width, **head}) for block in self.blocks})
        self.live = frozenset(self.heads)
        self.num_global_views = num_global_views
        self.train_encoder = train_encoder
        self._freeze_last_shift()
        if not train_encoder:
            self.backbone.requires_grad_(False)
        self.momentum_encoder = None if momentum is None else self.follow(
            'backbone', momentum=momentum, end_momentum=momentum)

    def _find_blocks(self) -> tuple[int, ...]:
        blocks, last = tuple(getattr(self.backbone, 'out_indices', ())), depth_map(self.backbone).num_blocks - 1
        if not blocks or max(blocks) != last:
            raise ValueError(f'{type(self.backbone).__name__} gives the blocks {blocks}; out_indices must name those '
                             f'that get a head, from 0, the last one ({last}) among them')
        return blocks

    def _freeze_last_shift(self) -> None:
        depths = depth_map(self.backbone)
        for name, parameter in self.backbone.named_parameters():
            if name.endswith('.bias') and depths.depths[name] == depths.last:
                parameter.requires_grad_(False)
        if hasattr(self.backbone, 'output_norm'):
            self.backbone.output_norm.bias.requires_grad_(False)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """Queues are equal in all processes: DDP must not broadcast half a gigabyte of them before each step."""
        return [f'{path}.{name}' for path, module in self.named_modules() if isinstance(module, SupportQueue)
                for name, _ in module.named_buffers()]

    def train(self, mode: bool = True) -> 'MIMRefiner':
        """Set the mode; an encoder that does not train stays in eval mode."""
        super().train(mode)
        if not self.train_encoder:
            self.backbone.eval()
        return self

    def on_freeze(self, frozen_depth: int) -> None:
        """Switch off the heads of blocks that no longer train; called when every depth up to this one was frozen."""
        self.live = frozenset(f'block{block}' for block in self.blocks if block + 1 > frozen_depth)
        if not self.live:
            raise ValueError(f'frozen_depth={frozen_depth} is at or above every block with a head {self.blocks}, so '
                             'nothing would be left to learn; freeze less, or end the training')
        for name in set(self.heads) - self.live:
            for parameter in self.heads[name].parameters():
                parameter.requires_grad_(False)
                parameter.grad = None

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """The term of every head, ``loss_block…``, of views (B, 3, H, W), global ones first."""
        check_views(inputs, self.num_global_views)
        device = inputs[0].device
        ids, labels = sample_ids(data_samples, device), sample_labels(data_samples, device)
        features = dict(zip(self.heads, encode_views(self.backbone, inputs)))
        losses = {}
        for name, head in self.heads.items():
            terms = head.loss(features[name], ids, self.num_global_views, labels) if name in self.live else {
                'loss': features[name].new_zeros(())}
            losses.update({f'{term}_{name}': value for term, value in terms.items()})
        return losses


def check_views(inputs: Sequence[Tensor], num_global: int) -> None:
    """Check that a batch has as many views as are needed."""
    if not isinstance(inputs, list | tuple) or len(inputs) < num_global:
        given = f'{len(inputs)} views' if isinstance(inputs, list | tuple) else f'one {type(inputs).__name__}'
        raise ValueError(f'{given} of each image came, but {num_global} global ones are needed; use MultiView in the '
                         'pipeline, or mm_graft.MultiCropPreprocessor')
