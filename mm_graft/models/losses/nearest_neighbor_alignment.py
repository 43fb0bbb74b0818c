r"""Nearest-neighbor alignment: the neighbor of one view attracts the prediction of another.

MIM-Refiner (Alkin et al., ICLR 2025, arXiv 2402.10093) as ``ml-jku/MIM-Refiner@cc574235995e``
(``losses/ssl/nnclr_loss.py``) runs it. For global view i and view j, with normalized projections z, their neighbors n
in the queue and predictions p of all images,

.. math::
    L_{ij} = -\frac1B \sum_b \log \frac{e^{n_{ib} p_{jb} / \tau}}
             {e^{n_{ib} p_{jb} / \tau} + \sum_{c \neq b} e^{z_{ib} p_{jc} / \tau}}, \qquad
    L = \frac1{|P|} \sum_{(i, j) \in P} L_{ij}

so the neighbor stands in for the positive alone, and the softmax runs over the side that has a gradient.
"""

import logging
from collections.abc import Callable

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.equations import at_least_float32
from mm_graft.models.gather import gather_with_gradient
from mm_graft.registry import MODELS

Pairs = list[tuple[int, int]]


def global_pairs(num_global: int) -> Pairs:
    """Every global view with every other."""
    return [(i, j) for i in range(num_global) for j in range(num_global) if i != j]


def described_pairs(num_global: int, num_local: int) -> Pairs:
    """Every global view with every other view, as the paper describes multi-crop; global views come first."""
    return global_pairs(num_global) + [(i, num_global + j) for i in range(num_global) for j in range(num_local)]


def published_pairs(num_global: int, num_local: int) -> Pairs:
    """The pairs that the published code compares.

    Its loop over the local views counts from the first *global* one: with 2 + 10 views the four pairs of global views
    come twice or are a view with itself, and the last two local views are compared with nothing. Where there are no
    more local than global views, no local view is used at all.
    """
    return global_pairs(num_global) + [(i, j) for i in range(num_global) for j in range(num_local)]


PAIRS: dict[str, Callable[[int, int], Pairs]] = {'published': published_pairs, 'described': described_pairs}


def pair_losses(projections: Tensor, neighbors: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """L_ij of every global view i and view j, (G, V).

    Args:
        projections: z (G, B, D) of the global views, any scale, without gradient.
        neighbors: n (G, B, D), any scale, without gradient.
        predictions: p (V, B, D), any scale; those of all processes are gathered, with gradient.
        temperature: τ.
    """
    batch = projections.shape[1]
    z, n = F.normalize(projections.detach(), dim=-1), F.normalize(neighbors.detach(), dim=-1)
    p = F.normalize(gather_with_gradient(predictions.transpose(0, 1)), dim=-1)  # (V, B, D) → (N, V, D)
    first = get_rank() * batch  # where the B own images begin among the N of all processes
    positive = torch.einsum('gbd,bvd->gvb', n, p[first:first + batch]) / temperature
    logits = torch.einsum('gbd,nvd->gvbn', z, p) / temperature
    logits = logits.diagonal_scatter(positive, first, 2, 3)
    return (logits.logsumexp(3) - positive).mean(2)


def mean_over_pairs(losses: Tensor, pairs: Pairs) -> Tensor:
    """Mean of the entries (i, j) of ``losses`` (G, V), each as often as it is in ``pairs``."""
    weights = torch.zeros_like(losses)
    for i, j in pairs:
        weights[i, j] += 1
    return (losses * weights).sum() / len(pairs)


@MODELS.register_module()
class NNALoss(nn.Module):
    """Mean of :func:`pair_losses` over pairs of views, in single precision.

    Args:
        temperature: τ; the authors' is 0.2 for ViT-L, 0.3 for H, 0.35 for 2B.
        pairs: ``'published'``, what the released code compares and the published numbers come from, or
            ``'described'``, what its text says. Without local views they are the same.
    """

    def __init__(self, temperature: float = 0.2, pairs: str = 'published') -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature={temperature} must be positive; 0.2 is usual')
        if pairs not in PAIRS:
            raise ValueError(f'pairs={pairs!r} is unknown; choose one of {list(PAIRS)}')
        self.temperature = temperature
        self.pairs = pairs
        self._warned = False

    def forward(self, projections: Tensor, neighbors: Tensor, predictions: Tensor) -> Tensor:
        """L of projections and neighbors (G, B, D) of the global views, and predictions (V, B, D) of all views."""
        num_global, num_views = len(projections), len(predictions)
        pairs = PAIRS[self.pairs](num_global, num_views - num_global)
        if all(i == j for i, j in pairs):
            raise ValueError(f'{num_views} view(s), {num_global} of them global, give no two views to compare; make '
                             'two global views of each image')
        self._warn_of_unused(pairs, num_global, num_views)
        with torch.autocast(projections.device.type, enabled=False):
            single = map(at_least_float32, (projections, neighbors, predictions))
            return mean_over_pairs(pair_losses(*single, self.temperature), pairs)

    def _warn_of_unused(self, pairs: Pairs, num_global: int, num_views: int) -> None:
        if self._warned or num_views == num_global or max(j for _, j in pairs) >= num_global:
            return
        self._warned = True
        print_log(f'pairs={self.pairs!r} compares none of the {num_views - num_global} local views of each image: the '
                  'released code counts them from the first global one; they are encoded for the statistics of batch '
                  "norm alone. Choose pairs='described', or leave local views out", logger='current',
                  level=logging.WARNING)
