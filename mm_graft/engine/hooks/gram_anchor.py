r"""The Gram anchor: patches keep the similarities that they had at the start.

.. math::
    L_\mathrm{gram} = \frac{w}{B N^2} \sum_{i=1}^B \lVert X_i X_i^\top - Y_i Y_i^\top \rVert_F^2

with X the patch tokens (N, D) of the encoder that trains, Y those of the starting encoder on the same image, each token
scaled to length 1 (Siméoni et al., DINOv3, arXiv 2508.10104, §4.2, where the sum is not divided by N²; here the weight
does not depend on the size of the image). Features may turn as a whole, and the width need not stay; only which patches
belong together is kept. DINOv3 anchors the last layer to an earlier teacher; here any depths to the starting weights.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.checkpoints import load_backbone
from mm_graft.depth import blocks_of, find_backbone, unwrap
from mm_graft.encoders import encode_full, patch_projection
from mm_graft.extra_loss import add_loss
from mm_graft.registry import HOOKS
from mm_graft.sharding import refuse_sharding, sharding_of


def gram_distance(tokens: Tensor, anchors: Tensor) -> Tensor:
    """Mean squared difference between the cosine similarities of all pairs of patches of (B, N, D) and (B, N, E)."""
    own, start = (F.normalize(part.float(), dim=-1) for part in (tokens, anchors))
    return (own @ own.transpose(1, 2) - start @ start.transpose(1, 2)).square().mean()  # (B, N, N) → ()


class TokenRecorder:
    """Keeps the images that a network is given and the tokens (B, T, D) that chosen blocks make of them.

    Args:
        depths: blocks by depth, the first is 1.
        with_gradient: keep what passes with gradients on (a training step), or without them.
    """

    def __init__(self, network: nn.Module, depths: Sequence[int], with_gradient: bool) -> None:
        self.with_gradient = with_gradient
        self.images: list[Tensor] = []
        self.tokens: list[list[Tensor]] = [[] for _ in depths]
        blocks = blocks_of(network)
        self.handles = [find_backbone(network)[1].patch_embed.register_forward_pre_hook(self._keep_images)]
        self.handles += [blocks[depth - 1].register_forward_hook(partial(self._keep_tokens, kept))
                         for depth, kept in zip(depths, self.tokens)]

    def _keep_images(self, module: nn.Module, args: tuple) -> None:
        if torch.is_grad_enabled() == self.with_gradient:
            self.images.append(args[0])

    def _keep_tokens(self, kept: list[Tensor], module: nn.Module, args: tuple, output: Tensor) -> None:
        if torch.is_grad_enabled() == self.with_gradient:
            kept.append(output)

    def take(self) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """The images of each forward pass since the last call, and each pass's tokens by depth."""
        images, tokens = self.images[:], list(zip(*self.tokens))
        for kept in (self.images, *self.tokens):
            kept.clear()
        return images, tokens

    def close(self) -> None:
        """Stop recording."""
        for handle in self.handles:
            handle.remove()


@HOOKS.register_module()
class GramAnchor(Hook):
    """Add ``loss_gram`` to the losses of any algorithm that encodes whole images, with nothing to subclass.

    The starting encoder is read from its file at every start, also of a resumed run, is not saved, and runs once more
    over the images of a step, without gradients: about a third of the encoder's own forward and backward pass.

    Args:
        checkpoint: file with the weights to keep to, in any layout that ``mm_graft.checkpoints`` knows.
        depths: blocks whose patches are compared, the first is 1; the last block alone if None.
        weight: w.
        resize: interpolate the file's positions to this image size.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, checkpoint: str | Path, depths: Sequence[int] | None = None, weight: float = 1.0,
                 resize: bool = False) -> None:
        if not 0 < weight < float('inf'):
            raise ValueError(f'weight={weight} of the Gram anchor is not positive and finite; for 0 leave the hook out')
        self.checkpoint, self.depths, self.weight, self.resize = checkpoint, depths, weight, resize
        self.recorders: list[TokenRecorder] = []

    def before_train(self, runner: Runner) -> None:
        """Read the starting encoder and join the model's losses."""
        refuse_sharding('GramAnchor', sharding_of(runner))
        model = unwrap(runner.model)
        backbone = model.backbone
        count = len(blocks_of(backbone))
        self.chosen = [count] if self.depths is None else list(self.depths)
        if not self.chosen or not all(1 <= depth <= count for depth in self.chosen):
            raise ValueError(f'depths={self.chosen} of the Gram anchor; choose some of 1 to {count}, the blocks')
        self.start = deepcopy(backbone).requires_grad_(False)
        load_backbone(self.start, self.checkpoint, resize=self.resize)
        self.start.eval()
        self.recorders = [TokenRecorder(backbone, self.chosen, True), TokenRecorder(self.start, self.chosen, False)]
        self.term = add_loss(model, 'loss_gram', self.loss)

    def loss(self) -> Tensor:
        """The term of this step: the mean over its forward passes and the depths."""
        images, tokens = self.recorders[0].take()
        if not tokens:
            raise ValueError('no block of `model.backbone` ran in this step; the Gram anchor has nothing to compare')
        with torch.no_grad():
            for passed in images:
                encode_full(self.start, passed)
        distances = [gram_distance(*self._patches(own, start, passed))
                     for passed, own_tokens, start_tokens in zip(images, tokens, self.recorders[1].take()[1])
                     for own, start in zip(own_tokens, start_tokens)]
        return self.weight * torch.stack(distances).mean()

    def _patches(self, own: Tensor, start: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, P + N, D) without the P prefix tokens."""
        side = patch_projection(self.start).kernel_size
        count = images.shape[-2] // side[0] * (images.shape[-1] // side[1])
        if own.shape[1] != start.shape[1] or own.shape[1] < count:
            raise ValueError(f'the encoder gave {own.shape[1]} tokens for {count} patches, the starting one '
                             f'{start.shape[1]}: the Gram anchor needs every patch of every image (no masked encoding; '
                             'class_token_only=False, or depths without the last block)')
        return own[:, -count:], start[:, -count:]

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        self.term.remove()
        for recorder in self.recorders:
            recorder.close()
