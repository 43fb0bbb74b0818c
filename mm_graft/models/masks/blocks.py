r"""BEiT's block masks.

Rectangles are added until ``int(ratio · N)`` patches are hidden: area :math:`U(a_{min}, \text{remaining})`, aspect
:math:`\exp U(\log 0.3, -\log 0.3)`, place uniform. A rectangle counts only if it hides something new and not more than
remains; after ten refusals in a row the image is left as it is, so that a mask may hide a little less than asked for
(BEiT algorithm 1; ``TencentARC/ConMIM@4263955``, ``masking_generator.py``).

The whole batch is drawn together on its device. The number of tries is fixed (the device is never asked whether all
images are done), which shortens a mask only where more tries than that would have been needed.
"""

import math

import torch
from torch import Tensor

from mm_graft.models.masks.random_cells import check_ratio, image_grid
from mm_graft.registry import MODELS

PATIENCE = 10


def _draw_rectangles(remaining: Tensor, uniform: Tensor, grid: tuple[int, int], min_patches: int,
                     min_aspect: float) -> tuple[Tensor, Tensor]:
    """One rectangle an image: (B, H, W) of bool, and (B,) whether it fits on the grid."""
    area, aspect, top, left = uniform.unbind(-1)  # (B, 4) → 4 × (B,)
    area = min_patches + area * (remaining - min_patches)
    aspect = torch.exp((2 * aspect - 1) * math.log(1 / min_aspect))
    height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (height < grid[0]) & (width < grid[1])  # an empty one adds nothing and is refused for that
    top = (top * (grid[0] - height + 1).clamp(min=1)).floor()
    left = (left * (grid[1] - width + 1).clamp(min=1)).floor()
    rows = torch.arange(grid[0], device=area.device)
    columns = torch.arange(grid[1], device=area.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return in_rows[:, :, None] & in_columns[:, None, :], fits


def block_mask(batch_size: int, grid: tuple[int, int], ratio: float | Tensor, min_patches: int = 16,
               min_aspect: float = 0.3, tries: int = 64, device: torch.device | str = 'cpu',
               generator: torch.Generator | None = None) -> Tensor:
    """Masks (B, N), True = hidden, of at most ``int(ratio · N)`` patches in rectangles.

    Args:
        batch_size: B.
        grid: rows and columns of patches.
        ratio: hidden share, rounded down; of each image, (B,), where they differ.
        min_patches: smallest area of a rectangle, in patches.
        min_aspect: smallest aspect; the largest is its inverse.
        tries: rectangles drawn for each image.
        device: where the masks are made.
        generator: source of randomness on that device; torch's own if None.
    """
    if not isinstance(ratio, Tensor):
        ratio = torch.full((), ratio, dtype=torch.float64, device=device)
    target = (ratio.double() * grid[0] * grid[1]).long()
    uniform = torch.rand(tries, batch_size, 4, device=device, generator=generator)
    mask = torch.zeros(batch_size, *grid, dtype=torch.bool, device=device)
    refusals = torch.zeros(batch_size, dtype=torch.long, device=device)
    for draw in uniform:
        remaining = target - mask.sum((1, 2))
        rectangle, fits = _draw_rectangles(remaining, draw, grid, min_patches, min_aspect)
        added = (rectangle & ~mask).sum((1, 2))
        accepted = fits & (added > 0) & (added <= remaining) & (refusals < PATIENCE)
        mask |= rectangle & accepted[:, None, None]
        refusals = (refusals + 1).masked_fill(accepted, 0)
    return mask.flatten(1)  # (B, H, W) → (B, N)


@MODELS.register_module()
class BlockMask:
    """:func:`block_mask` for images of one size.

    Args:
        img_size: pixels of the image's side, or (height, width).
        patch_size: pixels of a patch's side.
        ratio: hidden share of the patches, rounded down. The authors' command-line default, 75 of 196, is 0.383.
        min_patches: smallest area of a rectangle, in patches.
    """

    def __init__(self, img_size: int | tuple[int, int] = 224, patch_size: int = 16, ratio: float = 0.75,
                 min_patches: int = 16) -> None:
        self.grid = image_grid(img_size, patch_size)
        self.ratio = check_ratio(ratio)
        num_hidden = int(ratio * self.grid[0] * self.grid[1])
        if not 1 <= min_patches <= num_hidden:
            raise ValueError(f'min_patches={min_patches}, but {num_hidden} patches are to be hidden; '
                             'choose a smaller rectangle or a larger ratio')
        self.min_patches = min_patches

    def __call__(self, batch_size: int, device: torch.device | str = 'cpu',
                 generator: torch.Generator | None = None) -> Tensor:
        """Masks (B, N), True = hidden."""
        return block_mask(batch_size, self.grid, self.ratio, self.min_patches, device=device, generator=generator)


def spread_ratios(batch_size: int, ratio: tuple[float, float], share: float, device: torch.device | str = 'cpu',
                  generator: torch.Generator | None = None) -> Tensor:
    """Mask ratios (B,) of a batch: ``int(share · B)`` of them spread over ``ratio``, one in each equal part; others 0.

    In random order (``facebookresearch/dinov2@b8931f7``, ``dinov2/data/collate.py``).
    """
    count = int(share * batch_size)
    edges = torch.linspace(*ratio, count + 1, device=device)
    inside = torch.rand(count, device=device, generator=generator)
    ratios = torch.zeros(batch_size, device=device)
    ratios[:count] = edges[:-1] + inside * edges.diff()
    return ratios[torch.randperm(batch_size, device=device, generator=generator)]


@MODELS.register_module()
class SpreadBlockMask:
    """:func:`block_mask` with :func:`spread_ratios`: some images hide nothing, the others little or much, as in DINOv2.

    iBOT draws for each image whether it hides something (one in two), and a ratio from U(0.1, 0.5).

    Args:
        img_size: pixels of the image's side, or (height, width).
        patch_size: pixels of a patch's side.
        ratio: smallest and largest hidden share of an image that hides something.
        share: of the images that hide something.
        min_patches: smallest area of a rectangle, in patches.
    """

    def __init__(self, img_size: int | tuple[int, int] = 224, patch_size: int = 16,
                 ratio: tuple[float, float] = (0.1, 0.5), share: float = 0.5, min_patches: int = 4) -> None:
        self.grid = image_grid(img_size, patch_size)
        self.ratio = tuple(check_ratio(value) for value in ratio)
        if not ratio[0] <= ratio[1]:
            raise ValueError(f'ratio={ratio} goes from the smallest to the largest; choose the first ≤ the second')
        if not 0 < share <= 1:
            raise ValueError(f'share={share} is that of the images that hide something; choose one in (0, 1]')
        num_hidden = int(ratio[1] * self.grid[0] * self.grid[1])
        if not 1 <= min_patches <= num_hidden:
            raise ValueError(f'min_patches={min_patches}, but at most {num_hidden} patches are to be hidden; '
                             'choose a smaller rectangle or a larger ratio')
        self.share, self.min_patches = share, min_patches

    def __call__(self, batch_size: int, device: torch.device | str = 'cpu',
                 generator: torch.Generator | None = None) -> Tensor:
        """Masks (B, N), True = hidden."""
        ratios = spread_ratios(batch_size, self.ratio, self.share, device, generator)
        return block_mask(batch_size, self.grid, ratios, self.min_patches, device=device, generator=generator)
