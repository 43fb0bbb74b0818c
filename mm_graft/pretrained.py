"""Encoders out of files, for programs that use neither configs nor runners."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.architecture import architecture_of
from mm_graft.checkpoints.containers import read_file
from mm_graft.checkpoints.recorded_config import recorded_config
from mm_graft.depth import blocks_of, find_backbone
from mm_graft.encoders import Encoder, encode_full, load_encoder, out_type_of


class Tokens(NamedTuple):
    """What an encoder makes of images: class token (B, D), None if there is none, and patch tokens (B, N, D)."""

    class_token: Tensor | None
    patch_tokens: Tensor


SLACK = 0.5  # by which bicubic resizing may leave 0…1; what is normalized or counts to 255 leaves it farther


class PretrainedEncoder(nn.Module):
    """A frozen encoder: images (B, C, H, W) in 0…1, RGB, of its own size → class and patch tokens.

    It normalizes them itself. That they are in 0…1 is checked on the first batch alone, as a GPU has to wait for it.

    Args:
        encoder: backbone and normalization.
        source: where it is from, for error messages.
    """

    def __init__(self, encoder: Encoder, source: str) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.source = source
        self.looked = False
        self.eval()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.encoder.image_size

    @property
    def width(self) -> int:
        """D."""
        blank = next(self.parameters()).new_zeros(1, self.encoder.num_channels, *self.image_size)
        return self.encoder.patch_tokens(blank).shape[-1]

    def forward(self, images: Tensor, block: int | None = None) -> Tokens:
        """Tokens after the last block and its norm, or after ``block`` (the first is 1) without a norm.

        Raises:
            ValueError: images of another number of channels, size or range, or no such block.
        """
        self._check(images)
        vit = find_backbone(self.encoder.backbone)[1]
        kept = []
        handle = None if block is None else self._block(block).register_forward_hook(
            lambda module, args, output: kept.append(output))
        try:
            with out_type_of(vit, 'raw'):
                tokens = encode_full(vit, self.encoder.normalize(255 * images))
        finally:
            if handle is not None:
                handle.remove()
        tokens = kept[0] if kept else tokens
        patches = math.prod(self.encoder.grid)
        prefix = tokens.shape[1] - patches
        return Tokens(tokens[:, 0] if prefix else None, tokens[:, prefix:])

    def _check(self, images: Tensor) -> None:
        expected = (self.encoder.num_channels, *self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected or not images.is_floating_point():
            raise ValueError(f'images of shape {tuple(images.shape)}, {images.dtype}; {self.source} takes (B, '
                             f'{expected[0]}, {expected[1]}, {expected[2]}), floating point, in 0…1')
        if self.looked or torch.compiler.is_compiling() or torch.jit.is_tracing() or not len(images):
            return
        low, high = (value.item() for value in images.aminmax())
        if not -SLACK <= low <= high <= 1 + SLACK:
            raise ValueError(f'images with values from {low:.3g} to {high:.3g}; {self.source} takes 0…1 and normalizes '
                             'by itself: divide by 255, leave out a normalization before it')
        self.looked = True

    def _block(self, block: int) -> nn.Module:
        blocks = blocks_of(self.encoder.backbone)
        if not 1 <= block <= len(blocks):
            raise ValueError(f'there is no block {block}; {self.source} has blocks 1 to {len(blocks)}')
        return blocks[block - 1]


def load_pretrained(path: str | Path, config: str | Config | None = None, branch: str = 'base',
                    resize: bool = False) -> PretrainedEncoder:
    """The encoder in a file, ready to use: three lines of Python, no runner.

    Args:
        path: file or folder of any layout that :mod:`mm_graft.checkpoints` knows. Files of this package's runs say how
            they were made; of others the sizes are read from the tensors, and the rest from the JSON files of Hugging
            Face, timm or OpenCLIP beside them. What nobody says is assumed as the layout has it, and said.
        config: file or config with ``model.backbone``, which then counts instead.
        branch: ``'base'``, or ``'momentum'`` for the momentum encoder.
        resize: interpolate positions to the image size of ``config``, if the file's are for another.

    Raises:
        mm_graft.checkpoints.CheckpointError: the file is unusable, or its architecture cannot be told.
    """
    cfg = (Config.fromfile(config) if isinstance(config, str | Path) else config) or config_of(path, branch)
    for key in ('init_cfg', 'frozen_stages'):
        cfg.model.backbone.pop(key, None)
    return PretrainedEncoder(load_encoder(cfg, path, branch, resize), str(path))


def config_of(path: str | Path, branch: str = 'base') -> Config:
    """How the encoder in a file was made: as its run recorded, or as its tensors and what lies beside them tell."""
    return recorded_config(path) or guess_config(path, branch)


def guess_config(path: str | Path, branch: str = 'base', channels: int | None = None) -> Config:
    """The config of a ViT from its tensors and from what lies beside them.

    Mean and standard deviation are left out where the file does not say them and its images have ``channels``, which
    the caller normalizes.
    """
    try:
        found = architecture_of(read_file(path, branch=branch), branch=branch)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f'checkpoint {path}: {error}') from error
    stem, pixels = found.backbone['in_channels'], [[round(255 * value, 6) for value in side] for side in found.pixels]
    if len(pixels[0]) != stem:
        if stem != channels:
            raise CheckpointError(f'checkpoint {path} is for images of {stem} channels, by whose mean and std it does '
                                  'not say they are normalized; give the config of its encoder')
        pixels = None, None
    if found.assumed:
        print_log(f'{path} does not say how it was made: assuming {", ".join(found.assumed)}', logger='current')
    preprocessor = dict(mean=pixels[0], std=pixels[1], to_rgb=stem == 3)
    return Config(dict(model=dict(backbone={**found.backbone, 'out_type': 'raw'}, data_preprocessor=preprocessor),
                       default_scope='mmpretrain'))
