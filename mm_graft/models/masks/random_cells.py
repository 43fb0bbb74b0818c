"""Random masks in square cells of several patches.

Of the image's cells ``ceil(ratio · cells)`` are hidden, each as a whole. ConMIM's ``random_mps32`` is cells of 32 px
(37 of 49, hence 148 of 196 patches and not 147), as SimMIM's generator makes them (``TencentARC/ConMIM@4263955``,
``masking_generator.py``). Here a whole batch is drawn in one sort on its device; images and iterations differ because
the generator's state moves on, whereas masks made in loader workers repeat where NumPy is not reseeded.
"""

import math

import torch
from torch import Tensor

from mm_graft.registry import MODELS


def image_grid(img_size: int | tuple[int, int], patch_size: int, unit: str = 'patch_size') -> tuple[int, int]:
    """Rows and columns of an image in squares of ``patch_size`` pixels."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(f'{unit}={patch_size} does not divide an image of {height} × {width} pixels; '
                         'choose a divisor of both sides')
    return height // patch_size, width // patch_size


def check_ratio(ratio: float) -> float:
    """The mask ratio itself."""
    if not 0 < ratio < 1:
        raise ValueError(f'mask ratio {ratio} is the hidden share of the patches; choose one in (0, 1), as 0.75')
    return ratio


def random_cell_mask(batch_size: int, cells: tuple[int, int], patches_per_cell: int, ratio: float,
                     device: torch.device | str = 'cpu', generator: torch.Generator | None = None) -> Tensor:
    """Masks (B, N), True = hidden, of which each hides ``ceil(ratio · cells)`` whole cells.

    Args:
        batch_size: B.
        cells: rows and columns of cells.
        patches_per_cell: patches along the side of a cell.
        ratio: hidden share.
        device: where the masks are made.
        generator: source of randomness on that device; torch's own if None.
    """
    num_cells = cells[0] * cells[1]
    num_hidden = math.ceil(num_cells * ratio)
    noise = torch.rand(batch_size, num_cells, device=device, generator=generator)
    order = noise.argsort(1)
    mask = torch.zeros(batch_size, num_cells, dtype=torch.bool, device=device)
    mask.scatter_(1, order[:, :num_hidden], True)
    mask = mask.view(batch_size, *cells)
    mask = mask.repeat_interleave(patches_per_cell, 1).repeat_interleave(patches_per_cell, 2)
    return mask.flatten(1)  # (B, H, W) → (B, N)


@MODELS.register_module()
class RandomCellMask:
    """:func:`random_cell_mask` for images of one size.

    Args:
        img_size: pixels of the image's side, or (height, width).
        patch_size: pixels of a patch's side.
        cell_size: pixels of a cell's side; 32 is the authors' choice for ViT-B and -L, 16 for ViT-S.
        ratio: hidden share of the cells, rounded up.
    """

    def __init__(self, img_size: int | tuple[int, int] = 224, patch_size: int = 16, cell_size: int = 32,
                 ratio: float = 0.75) -> None:
        self.grid = image_grid(img_size, patch_size)
        self.cells = image_grid(img_size, cell_size, 'cell_size')
        if cell_size % patch_size:
            raise ValueError(f'cell_size={cell_size} is not a multiple of patch_size={patch_size}; '
                             'a cell must hold whole patches')
        self.patches_per_cell = cell_size // patch_size
        self.ratio = check_ratio(ratio)

    def __call__(self, batch_size: int, device: torch.device | str = 'cpu',
                 generator: torch.Generator | None = None) -> Tensor:
        """Masks (B, N), True = hidden."""
        return random_cell_mask(batch_size, self.cells, self.patches_per_cell, self.ratio, device, generator)
