"""The size of the encoder in a checkpoint, as far as its tensors tell it."""

import math

from mm_graft.checkpoints import convert_backbone, read_checkpoint
from mm_graft.commands.start.plan import Encoder

NAMES = {192: 'deit-tiny', 384: 'deit-small', 768: 'deit-base', 1024: 'large', 1280: 'huge'}
HEAD = 64  # width of a head in all of these


def read_encoder(path: str) -> Encoder:
    """A ViT of one of the usual sizes, at the image size that its positions are for.

    Raises:
        ValueError: the file holds another encoder.
    """
    tensors = convert_backbone(read_checkpoint(path)).backbone
    if 'patch_embed.projection.weight' not in tensors or 'pos_embed' not in tensors:
        raise ValueError(f'{path} holds no plain ViT with a position table; train it by a config of its own')
    width, _, patch, _ = tensors['patch_embed.projection.weight'].shape
    blocks = 1 + max(int(name.split('.')[1]) for name in tensors if name.startswith('layers.'))
    side = math.isqrt(tensors['pos_embed'].shape[1])  # a class token more than a square
    if width not in NAMES:
        raise ValueError(f'{path} holds a ViT of width {width}; known are {sorted(NAMES)}; train it by a config')
    return Encoder(NAMES[width], width, blocks, width // HEAD, side * patch, patch)
