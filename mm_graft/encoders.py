"""An encoder by itself: every patch visible, behind the normalization that it was trained with."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.bounds import bounded_by
from mm_graft.checkpoints.resize import grid_of
from mm_graft.depth import blocks_of, find_backbone
from mm_graft.nested import value_at

LEFT_OUT = ('init_cfg', 'adapters')  # of a backbone's settings: weights come from a file, adapters merged


def encode_full(backbone: nn.Module, images: Tensor) -> Tensor:
    """What an encoder gives for normalized images (B, C, H, W) of which nothing is hidden; of several outputs the last.

    A bare timm model gives its tokens and not the scores of its classifier. Which tokens or maps the host's backbones
    give is for their ``out_type`` to say.
    """
    forward = getattr(backbone, 'forward_features', backbone)
    hides = 'mask' in inspect.signature(backbone.forward).parameters  # MAE, SimMIM
    output = forward(images, mask=None) if hides else forward(images)
    while isinstance(output, tuple | list):
        output = output[-1]
    return output


@contextmanager
def out_type_of(backbone: nn.Module, out_type: str) -> Iterator[None]:
    """Let a host ViT give ``out_type``, whatever its config asked for; a backbone that knows no types is left alone."""
    configured = getattr(backbone, 'out_type', None)
    known = out_type in getattr(backbone, 'OUT_TYPES', ())
    if known:
        backbone.out_type = out_type
    try:
        yield
    finally:
        if known:
            backbone.out_type = configured


@contextmanager
def outputs_of_blocks(backbone: nn.Module, keep: Callable[[Tensor], Tensor] = lambda tokens: tokens
                      ) -> Iterator[list[Tensor]]:
    """While open, every forward pass leaves in the list what is kept of the tokens (B, N, D) behind each block."""
    outputs: list[Tensor] = []
    handles = [block.register_forward_hook(lambda module, args, output: outputs.append(keep(output)))
               for block in blocks_of(backbone)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class Encoder(BaseModel):
    """A backbone behind a normalization, which is all that analysis, evaluation and export need of an algorithm.

    Args:
        backbone: a ViT or Swin of mmpretrain, this package or timm.
        mean: of each channel (RGB), in 0…255; None: images come normalized.
        std: of each channel (RGB), in 0…255.
        to_rgb: whether data sets give BGR, which ``data_preprocessor`` then turns round.
    """

    def __init__(self, backbone: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                 to_rgb: bool = False) -> None:
        super().__init__(dict(type='mmpretrain.ClsDataPreprocessor', mean=mean, std=std, to_rgb=to_rgb))
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """The backbone's last output for normalized images (B, C, H, W), every patch visible."""
        return encode_full(self.backbone, images)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """The same for images in 0…255, RGB."""
        return self(self.normalize(pixels))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Images (B, C, H, W) in 0…255, RGB → what the backbone expects, on its device."""
        pixels = pixels.to(next(self.parameters()).device, torch.float32)
        mean = getattr(self.data_preprocessor, 'mean', None)
        return pixels if mean is None else (pixels - mean) / self.data_preprocessor.std

    def denormalize(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`, not rounded."""
        mean = getattr(self.data_preprocessor, 'mean', None)
        return images if mean is None else images * self.data_preprocessor.std + mean

    def patch_tokens(self, pixels: Tensor) -> Tensor:
        """Patch tokens (B, N, D) of the last block, after the final norm, of images in 0…255, RGB."""
        vit = find_backbone(self.backbone)[1]
        with out_type_of(vit, 'raw'):
            tokens = encode_full(vit, self.normalize(pixels))
        return tokens[:, -self.grid[0] * self.grid[1]:]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return grid_of(self.backbone)

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return patch_projection(self.backbone).kernel_size[0]

    @property
    def num_channels(self) -> int:
        """Channels of an image."""
        return patch_projection(self.backbone).in_channels

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that the grid covers."""
        return tuple(side * self.patch_size for side in self.grid)


def patch_projection(backbone: nn.Module) -> nn.Conv2d:
    """The convolution by which a backbone embeds patches."""
    embedding = find_backbone(backbone)[1].patch_embed
    return embedding.projection if hasattr(embedding, 'projection') else embedding.proj


def preprocessor_config(cfg: Config) -> dict:
    """The settings of a config's data preprocessor."""
    return dict(cfg.get('model', {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {})


def normalization_of(cfg: Config) -> dict:
    """Mean, std and channel order of a config's data preprocessor, as :class:`Encoder` takes them."""
    settings = preprocessor_config(cfg)
    return {'mean': settings.get('mean'), 'std': settings.get('std'),
            'to_rgb': bool(settings.get('to_rgb', settings.get('bgr_to_rgb', False)))}  # mmpretrain's and mmseg's name


def build_encoder(cfg: Config) -> Encoder:
    """The encoder of a config, untrained and in eval mode."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    backbone = cfg.get('model', {}).get('backbone')
    if backbone is None:
        raise ValueError('the config has no `model.backbone`; give a pre-training or classification config')
    backbone = MODELS.build({key: value for key, value in backbone.items() if key not in LEFT_OUT})
    encoder = Encoder(backbone, **normalization_of(cfg))
    encoder.eval()  # not chained: the host's backbones return nothing from `train`
    return encoder


def load_encoder(cfg: Config, checkpoint: str | Path, branch: str = 'base', resize: bool = False,
                 channels: bool = False) -> Encoder:
    """The encoder of a config with the weights of a checkpoint, completely or not at all.

    Args:
        cfg: with ``model.backbone``.
        checkpoint: of any layout that :mod:`mm_graft.checkpoints` knows.
        branch: ``'base'``, or ``'momentum'`` for the momentum encoder.
        resize: interpolate position embeddings to the config's grid.
        channels: adapt the patch projection to the config's number of channels.
    """
    with bounded_by(checkpoint, value_at(cfg, 'model.backbone')):
        encoder = build_encoder(cfg)
    load_backbone(encoder.backbone, checkpoint, branch=branch, resize=resize, channels=channels)
    return encoder
