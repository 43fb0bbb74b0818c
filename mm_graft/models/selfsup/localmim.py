"""LocalMIM: masked image modeling at several depths and scales at once (arXiv:2303.05251).

    taps  = encoder(visible patches)                     after blocks 2, 4, n-2, n
    preds = one decoder a tap                            56², 28², 14², 7² for 224 pixels
    loss  = Σ_scales masked error(preds, HOG(image))     fine targets for low blocks, coarse for high ones

Source: Huawei's Efficient-Computing@225ddd2, ``LocalMIM/ViT``. Its Swin, which drops masked windows, is not rebuilt:
`DenseLocalMIM` runs a Swin that keeps masked tokens.
"""

from itertools import accumulate

import torch
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor

from mm_graft.depth import block_counts
from mm_graft.registry import MODELS


@MODELS.register_module()
class LocalMIM(BaseSelfSupervisor):
    """Encoder, decoders, targets and objective; each is named in the config.

    The encoder is `VisiblePatchViT`, or one that follows the protocol of the host's `MAEViT`, ``encoder(images) →
    (latent, mask, ids_restore)``; then all decoders read its last layer. Arguments are the host's: ``backbone``,
    ``neck`` (`LocalMIMNeck`), ``head`` (`LocalMIMHead`), ``target_generator`` (`HOGTarget`, `PixelTarget`).

    A decoder trains as long as the block that it taps: ``depth_overrides`` gives tap norm and decoder the depth of that
    block, and ``on_freeze`` switches a scale off once its block is frozen.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taps = self._find_taps()
        counts = {'neck.scales': len(self.neck.decoders), 'target_generator.cells': len(self.target_generator.cells)}
        if self.taps:
            counts['taps of the encoder'] = len(self.taps)
        if self.head.weights is not None:
            counts['head.weights'] = len(self.head.weights)
        if len(set(counts.values())) > 1:
            raise ValueError(f'the parts disagree about the number of scales: {counts}; give them the same number')
        self.live_scales = frozenset(range(len(self.neck.decoders)))

    def depth_overrides(self) -> dict[str, int]:
        """Tap norms and decoders are as deep as the block that they read (2, 4, 10, 12 of 12)."""
        overrides = {}
        for k, tap in enumerate(self.taps):
            overrides[f'{self._tap_norm(k)}.'] = overrides[f'neck.decoders.{k}.'] = tap
        return overrides

    def on_freeze(self, frozen_depth: int) -> None:
        """Every depth up to ``frozen_depth`` no longer trains (-1: all train): called by the hook that freezes.

        Scales that tap such a depth are switched off: their norm, decoder and target are not computed and their term
        is 0. The result depends on the argument alone, so it may be called at any time, repeatedly, and after a resume;
        nothing is deleted and the state dict keeps its keys.
        """
        scales = frozenset(k for k in range(len(self.neck.decoders)) if not self.taps or self.taps[k] > frozen_depth)
        if not scales:
            raise ValueError(f'frozen_depth={frozen_depth} is at or above every tap {self.taps}, so nothing would be '
                             'left to learn; freeze less, or end the training')
        self.live_scales = scales

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of images with nothing hidden, as the encoder gives them."""
        return self.backbone(inputs) if hasattr(self.backbone, 'encode_visible') else self.backbone(inputs, mask=None)

    def encode(self, inputs: Tensor) -> tuple[list[Tensor | None], Tensor, Tensor]:
        """Inputs of the decoders, the mask (B, N), True = hidden, and the order that restores the patches."""
        if hasattr(self.backbone, 'encode_visible'):
            return self.backbone.encode_visible(inputs, scales=self.live_scales)
        latent, mask, ids_restore = self.backbone(inputs)
        return [latent if k in self.live_scales else None for k in range(len(self.neck.decoders))], mask.bool(), \
            ids_restore

    def reconstruct(self, inputs: Tensor, data_samples: list | None = None) \
            -> tuple[list[Tensor | None], list[Tensor | None], Tensor]:
        """Predictions and targets of every live scale, (B, T_k, D_k), and the mask (B, h, w), True = hidden."""
        taps, mask, ids_restore = self.encode(inputs)
        preds = self.neck(taps, ids_restore)
        targets = self.target_generator(inputs, self.live_scales)
        return preds, targets, mask.unflatten(1, tuple(self.backbone.patch_resolution))

    def loss(self, inputs: Tensor, data_samples: list | None = None, **kwargs) -> dict[str, Tensor]:
        """The term of every scale."""
        return self.head.loss(*self.reconstruct(inputs, data_samples))

    def _find_taps(self) -> tuple[int, ...]:
        return tuple(getattr(self.backbone, 'taps', ()))

    def _tap_norm(self, scale: int) -> str:
        return f'backbone.tap_norms.{scale}'


@MODELS.register_module()
class DenseLocalMIM(LocalMIM):
    """LocalMIM on a hierarchical encoder that keeps masked tokens: `LocalMIMSwin`.

    The taps are the stages in ``out_indices``, after patch merging and the norm of that stage; the mask is the
    pipeline's (`SimMIMMaskGenerator`). The neck is `LocalMIMDenseNeck`.
    """

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Features of whole images, nothing hidden."""
        return self.backbone(inputs, mask=None)

    def reconstruct(self, inputs: Tensor, data_samples: list | None = None) \
            -> tuple[list[Tensor | None], list[Tensor | None], Tensor]:
        """As in `LocalMIM`; ``data_samples`` carry the mask, (h, w) of 0 and 1."""
        if not data_samples or any('mask' not in sample for sample in data_samples):
            raise ValueError('DenseLocalMIM needs a mask in every data sample; '
                             'add `SimMIMMaskGenerator` to the pipeline, before `PackInputs`')
        mask = torch.stack([torch.as_tensor(sample.mask) for sample in data_samples]).to(inputs.device).bool()
        maps = self.backbone(inputs, mask)
        preds = self.neck([tap if k in self.live_scales else None for k, tap in enumerate(maps)])
        return preds, self.target_generator(inputs, self.live_scales), mask

    def _find_taps(self) -> tuple[int, ...]:
        ends = list(accumulate(block_counts(self.backbone)))
        return tuple(ends[stage] for stage in self.backbone.out_indices)

    def _tap_norm(self, scale: int) -> str:
        return f'backbone.norm{self.backbone.out_indices[scale]}'
