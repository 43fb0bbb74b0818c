"""An encoder truncated after one of its blocks, to evaluate the features of that depth."""

from copy import deepcopy
from math import ceil

from torch import nn

from mm_graft.depth import block_lists, find_backbone


def single_list(encoder: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The list of transformer blocks of a plain ViT, to be changed in place."""
    backbone = find_backbone(encoder)[1]
    blocks, *more = block_lists(backbone)
    if more:
        raise ValueError(f'{type(backbone).__name__} has no single list of blocks; probe-depth needs a plain ViT')
    return blocks


def cut_after(encoder: nn.Module, block: int) -> nn.Module:
    """A copy of an encoder whose blocks above ``block`` (counted from 1) are identities.

    As in the code of Layer Grafted Pre-training (Table 5, n = 0), the final norm follows the block directly.
    """
    cut = deepcopy(encoder)
    blocks = single_list(cut)
    if not 1 <= block <= len(blocks):
        raise ValueError(f'block={block}; this encoder has blocks 1 to {len(blocks)}')
    for index in range(block, len(blocks)):
        blocks[index] = nn.Identity()
    return cut


def default_blocks(count: int) -> list[int]:
    """Half, three quarters and all of the blocks: 6, 9 and 12 of ViT-B, as in Table 5."""
    return sorted({ceil(count / 2), ceil(3 * count / 4), count})
