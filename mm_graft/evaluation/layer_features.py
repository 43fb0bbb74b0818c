"""Features of every block of a plain ViT: class token and mean of the patches."""

import torch
from torch import Tensor, nn

from mm_graft.depth import find_backbone
from mm_graft.encoders import encode_full, outputs_of_blocks

FINAL_NORMS = ('ln1', 'ln2', 'norm')  # the host's, that of its averaged patches, timm's
LAST = 4


def num_prefix_tokens(backbone: nn.Module) -> int:
    """Tokens before the patches: the class token, and registers behind it."""
    vit = find_backbone(backbone)[1]
    return getattr(vit, 'num_prefix_tokens', getattr(vit, 'num_extra_tokens', 1))


def encode_layers(backbone: nn.Module, images: Tensor) -> Tensor:
    """Class token, if there is one, and mean of the patches of every block as they leave it, (B, L, 2 or 1, D)."""
    with outputs_of_blocks(backbone) as outputs:
        encode_full(backbone, images)
    if len({output.shape[1:] for output in outputs}) != 1 or outputs[0].ndim != 3:
        raise ValueError(f'the blocks of {type(backbone).__name__} give {[tuple(o.shape) for o in outputs[:2]]}…; '
                         'layers are compared for plain ViTs, whose blocks all give tokens of one width')
    first = num_prefix_tokens(backbone)
    parts = [tokens[:, :1] for tokens in outputs] if first else [tokens[:, :0] for tokens in outputs]
    return torch.stack([torch.cat([part, tokens[:, first:].mean(1, keepdim=True)], 1)
                        for part, tokens in zip(parts, outputs)], 1)


def final_norm(backbone: nn.Module) -> nn.Module:
    """The norm behind the last block; nothing, if there is none."""
    vit = find_backbone(backbone)[1]
    return next((norm for name in FINAL_NORMS if isinstance(norm := getattr(vit, name, None), nn.LayerNorm)),
                nn.Identity())


def drop_final_norm(backbone: nn.Module) -> None:
    """Replace the final norm by an identity, for features before it."""
    vit = find_backbone(backbone)[1]
    names = [name for name in FINAL_NORMS if isinstance(getattr(vit, name, None), nn.LayerNorm)]
    if not names:
        raise ValueError(f'{type(vit).__name__} has no final norm; its features are those of the last block already')
    for name in names:
        setattr(vit, name, nn.Identity())


def encode_last_blocks(backbone: nn.Module, images: Tensor) -> Tensor:
    """Class tokens of the last four blocks and the mean of the last one's patches, after the final norm: (B, 5·D)."""
    layers = final_norm(backbone)(encode_layers(backbone, images)[:, -LAST:])
    if layers.shape[2] == 1:
        raise ValueError(f'{type(backbone).__name__} has no class token, which the heads of this protocol read')
    return torch.cat([layers[:, :, 0].flatten(1), layers[:, -1, 1]], 1)  # (B, 4, 2, D) → (B, 5·D)


def encode_all_blocks(backbone: nn.Module, images: Tensor) -> Tensor:
    """:func:`encode_layers` as one vector an image, (B, L·P·D)."""
    return encode_layers(backbone, images).flatten(1)


LAYER_POOLS = {'last-blocks': encode_last_blocks, 'all-blocks': encode_all_blocks}
