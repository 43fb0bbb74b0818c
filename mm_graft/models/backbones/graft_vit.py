"""The host's ViT for layer grafting: frozen stem, frozen lower blocks, activation checkpointing that allows both."""

from functools import partial

import torch
from mmpretrain.models.selfsup.mocov3 import MoCoV3ViT
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mm_graft.depth import blocks_of
from mm_graft.models.adapters import add_adapters
from mm_graft.models.backbones.class_token import class_token_through
from mm_graft.models.backbones.pretrained_init import names_checkpoint
from mm_graft.models.grids import check_divides
from mm_graft.models.position_table import mocov3_position_table
from mm_graft.registry import MODELS


class FrozenInEval:
    """Mixin for encoders whose blocks without a trained parameter stay in eval mode (drop path, dropout)."""

    def train(self, mode: bool = True) -> 'FrozenInEval':
        """Set the mode; returns the module, as PyTorch's modules do and the host's do not."""
        super().train(mode)
        for block in blocks_of(self):
            if is_frozen(block):
                block.eval()
        return self


@MODELS.register_module()
class GraftViT(FrozenInEval, MoCoV3ViT):
    """MoCo v3's ViT whose position embedding never trains and whose frozen blocks stay in eval mode.

    Layer grafting keeps patch projection and position embedding at the values of the MIM checkpoint
    (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``). The host sets the position embedding free when it is
    initialized from a checkpoint, its ``train()`` returns None, its fixed position table is scrambled unless the image
    is square, and MMEngine's activation checkpointing is reentrant, which drops the gradients of a block above a frozen
    prefix without an error. All four are fixed here.

    State-dict keys are those of mmpretrain's ``VisionTransformer``.

    Args:
        stop_grad_conv1: keep the patch projection as it is, weights and bias.
        with_cp: recompute the activations of each trained block in the backward pass instead of storing them.
        class_token_only: in training, do in the last block only what the class token needs; exact, and 7 % less work
            for twelve blocks (:mod:`mm_graft.models.backbones.class_token`).
        adapters: arguments of :func:`mm_graft.models.adapters.add_adapters`; nothing else of the encoder then trains.
        kwargs: as for mmpretrain's ``VisionTransformer``.
    """

    def __init__(self, patch_size: int = 16, stop_grad_conv1: bool = True, with_cp: bool = False,
                 class_token_only: bool = False, adapters: dict | None = None, **kwargs) -> None:
        super().__init__(patch_size=patch_size, **kwargs)
        if class_token_only and (self.out_type != 'cls_token' or list(self.out_indices) != [self.num_layers - 1]):
            raise ValueError(f'class_token_only with out_type={self.out_type!r} and out_indices={self.out_indices}; '
                             "leave it out, or return the class token of the last block (out_type='cls_token')")
        if class_token_only and adapters:
            raise ValueError('class_token_only reads weights of the last block past their layers, and adapters in them '
                             'would do nothing; leave one of the two out')
        check_divides(self.img_size, self.patch_embed.projection.kernel_size)
        self.with_cp = with_cp
        self.class_token_only = class_token_only
        self.pos_embed.requires_grad_(False)
        if stop_grad_conv1:  # the host's takes a bias for granted, which there is none of before a norm
            self.patch_embed.projection.requires_grad_(False)
        if adapters:
            add_adapters(self, **adapters)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.frozen_stages >= 0:  # the host's MoCo v3 leaves a norm before the blocks in autograd
            self.pre_norm.requires_grad_(False)

    def init_weights(self) -> None:
        """Initialize as the host, or from a checkpoint."""
        pretrained = names_checkpoint(self)
        for missing, part in (('with_cls_token=False', self.cls_token),
                              ('pre_norm=True without patch_cfg=dict(bias=True)', self.patch_embed.projection.bias)):
            if part is None and not pretrained:
                raise ValueError(f'{missing}: MoCo v3 initializes no encoder without a class token, or without a bias '
                                 "of the patch projection; load weights by init_cfg=dict(type='Pretrained', "
                                 'checkpoint=…), or leave it out')
        super().init_weights()
        if not pretrained:
            self.pos_embed.data.copy_(mocov3_position_table(self.patch_resolution, self.embed_dims))

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the first block, (B, 1 + num_patches, D), and the patch grid."""
        if self.training:  # evaluation may pad what is left over, as the host does
            check_divides(images.shape[-2:], self.patch_embed.projection.kernel_size)
        tokens, grid = self.patch_embed(images)
        if self.cls_token is not None:
            # (B, N, D) → (B, 1 + N, D)
            tokens = torch.cat((self.cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)
        position = resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode,
                                    self.num_extra_tokens)
        return self.pre_norm(self.drop_after_pos(tokens + position)), grid

    def run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """One block; recomputed in the backward pass if ``with_cp`` and if there is anything to differentiate."""
        lean = self.class_token_only and self.training and block is self.layers[-1]
        run = partial(class_token_through, block) if lean else block
        recomputed = self.with_cp and self.training and torch.is_grad_enabled()
        if recomputed and (tokens.requires_grad or not is_frozen(block)):
            return checkpoint(run, tokens, use_reentrant=False)
        return run(tokens)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the blocks ``out_indices`` in the form of ``out_type``, as the host gives them."""
        return self.run_upper(*self.embed(x), first=0)

    @property
    def frozen_depth(self) -> int:
        """Deepest depth (stem 0, block i at i + 1) up to which nothing trains and nothing is random; -1: not even 0."""
        stem = (param for name, param in self.named_parameters() if not name.startswith(('layers.', 'ln')))
        if any(param.requires_grad for param in stem) or (self.drop_after_pos.training and self.drop_after_pos.p > 0):
            return -1
        return next((depth for depth, block in enumerate(self.layers) if block.training or not is_frozen(block)),
                    len(self.layers))

    def run_lower(self, images: Tensor, count: int) -> tuple[Tensor, tuple[int, int]]:
        """Tokens after the first ``count`` blocks, (B, 1 + num_patches, D), and the patch grid."""
        tokens, grid = self.embed(images)
        for block in self.layers[:count]:
            tokens = self.run_block(block, tokens)
        return tokens, grid

    def run_upper(self, tokens: Tensor, grid: tuple[int, int], first: int) -> tuple[Tensor, ...]:
        """What :meth:`forward` returns, from the tokens before block ``first`` (0…n−1); earlier outputs are missing."""
        outputs = []
        for index, block in enumerate(self.layers[first:], start=first):
            tokens = self.run_block(block, tokens)
            if index == self.num_layers - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._format_output(tokens, grid))
        return tuple(outputs)


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of the module is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())
