"""Grids of patches: what fits an image, and what in a model would place the patches of a wide or tall one wrongly."""

from collections.abc import Sequence

from torch import nn

from mm_graft.checkpoints.resize import grid_of
from mm_graft.depth import find_backbone

# parts of the host that build for the square grid of as many patches, or column by column → what is right on any grid
SQUARE_ONLY = {
    'MAEViT': 'mm_graft.MAEViT', 'MAEPretrainDecoder': 'mm_graft.MAEPretrainDecoder',
    'MAEPretrainHead': 'mm_graft.MAEPretrainHead', 'MoCoV3ViT': 'mm_graft.GraftViT', 'MAEHiViT': None,
    'CAEPretrainViT': None, 'MixMIMPretrainTransformer': None, 'MixMIMPretrainDecoder': None, 'iTPNHiViT': None,
    'iTPNPretrainDecoder': None}


def check_divides(size: Sequence[int], patch: int | Sequence[int]) -> None:
    """Check that patches cover an image of ``size`` = (height, width) without a rest."""
    sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
    if any(side % step for side, step in zip(size, sides)):
        raise ValueError(f'patches of {sides[0]}×{sides[1]} pixels do not divide an image of {size[0]}×{size[1]}; '
                         'choose an image size (img_size, or the crop of the pipeline) or a patch size that does')


def check_grids(model: nn.Module) -> None:
    """Check that encoder and decoders speak of one grid, and that a grid that is not square is built right."""
    grid = grid_of(find_backbone(model)[1])
    for name, module in model.named_modules():
        kind = type(module).__name__
        host = square_only(module) if grid and grid[0] != grid[1] else None
        if host:
            instead = SQUARE_ONLY[host]
            raise ValueError(
                f'{name} ({kind}) places patches as in a square grid, but the images have {grid[0]}×{grid[1]} patches; '
                + (f'use type={instead!r} there' if instead else 'choose a square img_size'))
        # decoders of visible tokens know the grid by a setting of their own; counts would not tell 8×32 from 16×16
        own = getattr(module, 'grid', None) if hasattr(module, 'mask_token') else None
        if grid and own and tuple(own) != grid:
            raise ValueError(f'{name} ({kind}) is built for {own[0]}×{own[1]} patches, but the encoder has '
                             f'{grid[0]}×{grid[1]}; give both the same rows and columns')


def square_only(module: nn.Module) -> str | None:
    """Name of the host's class whose way of building a module has, if that is right on square grids only."""
    for method in ('init_weights', 'patchify'):
        function = getattr(type(module), method, None)
        owner = getattr(function, '__qualname__', '').split('.')[0]
        if owner in SQUARE_ONLY and function.__module__.startswith('mmpretrain.'):
            return owner
    return None
