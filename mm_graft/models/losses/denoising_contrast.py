r"""Denoising contrast: each hidden patch finds itself among the patches that the target network saw in full.

.. math::

    L = E_{j \in M} [ -\log ( \exp(q_j \cdot k_j / \tau) / \sum_{i \in D} \exp(q_j \cdot k_i / \tau) ) ]

ConMIM eq. 3 and ``TencentARC/ConMIM@4263955`` (``engine_for_pretraining.py``). q are the tokens of the corrupted
image, k those of the full one, both L2-normalized; M are the hidden patches of the whole batch on this device, which
weigh alike; the dictionary D holds all patches of the same image, hidden and visible. Keys carry no gradient.

The three other dictionaries are the paper's ablations (Tables 6 and 7). Shapes throughout: ``query`` and ``key``
(B, N, C) of any scale, ``mask`` (B, N), True = this patch is a query.

How we differ: the hidden rows are weighted instead of picked out, so that nothing waits for the device and an image or
batch without hidden patches costs 0 instead of NaN; similarities are taken in full precision under autocast.
"""

from functools import partial

import torch
from mmengine.dist import all_gather, get_rank
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.equations import at_least_float32
from mm_graft.registry import MODELS


def unit(tokens: Tensor) -> Tensor:
    """Tokens of length 1, in float32 or better."""
    return F.normalize(at_least_float32(tokens), dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is True; 0 if it is nowhere."""
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def patch_logits(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Cosine similarities of an image's queries to its keys, over τ: (B, N, N), row = query."""
    with torch.autocast(query.device.type, enabled=False):
        return unit(query) @ unit(key.detach()).transpose(1, 2) / temperature


def own_position_loss(logits: Tensor) -> Tensor:
    """−log softmax of each row at its own position: (B, N, N) → (B, N)."""
    return logits.logsumexp(-1) - logits.diagonal(dim1=-2, dim2=-1)


def denoising_contrast(query: Tensor, key: Tensor, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """Denoising contrast whose dictionary is the image itself (ConMIM eq. 3)."""
    return masked_mean(own_position_loss(patch_logits(query, key, temperature)), mask)


def batch_dictionary_contrast(query: Tensor, key: Tensor, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """Denoising contrast whose dictionary is every patch of every image on the device (Table 7, "intra-gpu").

    Takes memory for (B·N)² similarities.
    """
    query, key = query.flatten(0, 1)[None], key.flatten(0, 1)[None]  # (B, N, C) → (1, B·N, C)
    return denoising_contrast(query, key, mask.flatten()[None], temperature)


def filtered_contrast(query: Tensor, key: Tensor, mask: Tensor, temperature: float = 0.1,
                      max_similarity: float = 0.9) -> Tensor:
    """Denoising contrast without the keys that resemble the anchor patch (Table 7, "filtered").

    A key is left out of the denominator of patch j if its cosine similarity to the key of j exceeds
    ``max_similarity``. The paper gives neither the threshold nor the code; both the measure and the value are ours.
    """
    with torch.autocast(query.device.type, enabled=False):
        keys = unit(key.detach())
        similar = keys @ keys.transpose(1, 2) > max_similarity
        similar = similar & ~torch.eye(key.shape[1], dtype=torch.bool, device=key.device)
    logits = patch_logits(query, key, temperature).masked_fill(similar, float('-inf'))
    return masked_mean(own_position_loss(logits), mask)


def instance_contrast(query: Tensor, key: Tensor, mask: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE between the mean tokens of whole images (Table 6, "vanilla instance-level contrast").

    Queries are the means over the tokens that ``mask`` picks, keys the means over all; the dictionary is the images of
    all devices (gathered without gradient, as in MoCo v3). An image without a True in ``mask`` has no loss.
    """
    pooled = (query * mask.unsqueeze(-1)).sum(1)  # (B, N, C) → (B, C), of the mean's direction, which alone counts
    keys = torch.cat(all_gather(key.detach().mean(1)))
    with torch.autocast(query.device.type, enabled=False):
        logits = unit(pooled) @ unit(keys).T / temperature
    own = torch.arange(len(query), device=query.device) + get_rank() * len(query)
    return masked_mean(F.cross_entropy(logits, own, reduction='none'), mask.any(1))


@torch.no_grad()
def patch_accuracy(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """Share of the masked queries whose most similar key in their image is their own."""
    nearest = patch_logits(query, key, 1).argmax(-1)
    own = torch.arange(query.shape[1], device=query.device)
    return masked_mean((nearest == own).float(), mask)


@MODELS.register_module()
class DenoisingContrastLoss(nn.Module):
    """:func:`denoising_contrast`, the loss of ConMIM, and :func:`patch_accuracy`, which is logged.

    Args:
        temperature: τ.
    """

    equation = staticmethod(denoising_contrast)

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature={temperature} divides the similarities; give a positive number, as 0.1')
        self.temperature = temperature

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The terms ``loss_contrast`` and ``acc_patch`` of two token maps and the mask of the queries."""
        return {'loss_contrast': self.equation(query, key, mask, self.temperature),
                'acc_patch': patch_accuracy(query, key, mask)}


@MODELS.register_module()
class BatchDictionaryContrastLoss(DenoisingContrastLoss):
    """:func:`batch_dictionary_contrast`, an ablation of ConMIM."""

    equation = staticmethod(batch_dictionary_contrast)


@MODELS.register_module()
class InstanceContrastLoss(DenoisingContrastLoss):
    """:func:`instance_contrast`, an ablation of ConMIM."""

    equation = staticmethod(instance_contrast)


@MODELS.register_module()
class FilteredContrastLoss(DenoisingContrastLoss):
    """:func:`filtered_contrast`, an ablation of ConMIM.

    Args:
        temperature: τ.
        max_similarity: cosine similarity to the anchor's key above which a key is no negative.
    """

    def __init__(self, temperature: float = 0.1, max_similarity: float = 0.9) -> None:
        super().__init__(temperature)
        self.equation = partial(filtered_contrast, max_similarity=max_similarity)
        if not -1 < max_similarity <= 1:
            raise ValueError(f'max_similarity={max_similarity} is compared with a cosine; choose one in (-1, 1]')
