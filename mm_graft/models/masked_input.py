"""Hidden patches for any ViT: their embeddings leave the patch embedding as one learned token."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mm_graft.depth import find_backbone
from mm_graft.models.masking import replace_hidden


def check_tokens(backbone: nn.Module) -> None:
    """Check that a backbone gives its class token and all patch tokens."""
    if getattr(backbone, 'out_type', None) != 'raw' or getattr(find_backbone(backbone)[1], 'cls_token', None) is None:
        raise ValueError(f'{type(backbone).__name__} must return the class token and all patch tokens; '
                         "set out_type='raw' and keep the class token")


def check_grid(backbone: nn.Module, mask_generator: object) -> None:
    """Check that masks are of the backbone's grid."""
    grid, own = tuple(getattr(mask_generator, 'grid', backbone.patch_resolution)), tuple(backbone.patch_resolution)
    if grid != own:
        raise ValueError(f'masks of {grid[0]} × {grid[1]} patches do not fit an encoder of {own[0]} × {own[1]}; '
                         'give both the same img_size and patch_size')


def own_mask_token(backbone: nn.Module, hides: bool) -> nn.Parameter | None:
    """The mask token that a model must add for its backbone; None where the backbone has one, or nothing is hidden.

    A token that is never used stops training, since several processes would wait for its gradient.
    """
    token = getattr(find_backbone(backbone)[1], 'mask_token', None)
    if not hides:
        if token is not None:
            token.requires_grad_(False)
        return None
    if hasattr(backbone, 'encode_masked'):
        if token is None:
            raise ValueError(f'{type(backbone).__name__} has no mask token, but patches are to be hidden; '
                             'set with_mask_token=True')
        return None
    token = nn.Parameter(torch.zeros(1, 1, backbone.embed_dims))
    nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)
    return token


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


def encode_masked(backbone: nn.Module, images: Tensor, mask: Tensor, mask_token: Tensor | None) -> Tensor:
    """Tokens (B, P + N, D), prefix first, of images of which ``mask`` (B, N) hides patches.

    Args:
        backbone: with ``encode_masked(images, mask)`` (``ConMIMViT``, ``TimmViT``), or a plain ViT of the host.
        images: (B, C, H, W).
        mask: True = hidden.
        mask_token: of :func:`own_mask_token`.
    """
    if hasattr(backbone, 'encode_masked'):
        return backbone.encode_masked(images, mask)[-1]
    with patches_hidden(backbone.patch_embed, mask, mask_token):
        return backbone(images)[-1]
