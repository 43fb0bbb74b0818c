"""The two ways to hide patches from a ViT: replace them by a mask token, or leave them out."""

import torch
from torch import Tensor


def replace_hidden(tokens: Tensor, mask: Tensor, mask_token: Tensor) -> Tensor:
    """Patch tokens of which those that ``mask`` (B, N) hides are the mask token (…, D).

    ``tokens``: (B, N, D), or (B, rows, columns, D) as some encoders of timm have them.
    """
    return torch.where(mask.reshape(*tokens.shape[:-1], 1), mask_token.to(tokens.dtype).flatten(), tokens)


def choose_visible(noise: Tensor, num_visible: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the ``num_visible`` patches of smallest noise (B, N) of each image.

    Returns:
        indices of the visible patches (B, num_visible), in ascending noise; the place of every patch in that order
        (B, N), which puts them back; the mask (B, N), True = hidden.
    """
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    return ids_shuffle[:, :num_visible], ids_restore, ids_restore >= num_visible


def insert_mask_tokens(visible: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """Put visible tokens back in their places and a mask token in the others; (B, V, D) → (B, N, D).

    ``ids_restore``: (B, N), the place of every patch in the order visible, then hidden.
    """
    batch, num_visible, dims = visible.shape
    hidden = mask_token.to(visible.dtype).expand(batch, ids_restore.shape[1] - num_visible, -1)
    shuffled = torch.cat([visible, hidden], dim=1)
    return shuffled.gather(1, ids_restore[..., None].expand(-1, -1, dims))
