"""Variance, invariance and covariance of the blocks' features of two views (paper Fig. 6).

Conventions of the authors' code (``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1``, ``utils/pretrain.py``), which
differ from VICReg's loss: rows are scaled to length 1, and the covariance is not divided by the width.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.encoders import outputs_of_blocks
from mm_graft.equations import off_diagonal_energy

TERMS = ('variance', 'covariance', 'invariance', 'norm')


class VIC(NamedTuple):
    """The terms of two sets of features."""

    norm: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def vic(first: Tensor, second: Tensor) -> VIC:
    r"""Norm, invariance, variance and covariance of features (N, D) of two views.

    With :math:`\hat x = x / \lVert x \rVert` and :math:`\tilde x = x - \bar x` scaled to length 1 row by row (and not
    centered again), every term but the invariance being the mean of both views,

    .. math::
        \text{norm} = \overline{\lVert x \rVert}, \quad
        \text{inv} = \frac{1}{ND} \sum (\hat x - \hat y)^2, \quad
        \text{var} = \overline{\sqrt{\mathrm{Var}(\tilde x_{:d}) + 10^{-4}}}, \quad
        \text{cov} = \sum_{i \neq j} \Big(\frac{\tilde X^\top \tilde X}{N - 1}\Big)_{ij}^2 .

    Variance and covariance depend on N: compare only what was measured on equally many images.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise ValueError(f'views of shape {tuple(first.shape)} and {tuple(second.shape)}; give two of the same shape '
                         '(images, features) with at least two images')
    unit = [F.normalize(x, dim=1) for x in (first, second)]
    centered = [F.normalize(x - x.mean(0), dim=1) for x in (first, second)]
    return VIC(
        norm=torch.stack([x.norm(dim=1).mean() for x in (first, second)]).mean(),
        invariance=F.mse_loss(*unit),
        variance=torch.stack([(x.var(0) + 1e-4).sqrt().mean() for x in centered]).mean(),
        covariance=torch.stack([off_diagonal_energy(x) for x in centered]).mean())


@torch.no_grad()
def block_means(encoder: nn.Module, encode: Callable[[Tensor], object], images: Tensor) -> Tensor:
    """Output of every block, before the final norm, mean over all tokens with the class token: (blocks, B, D)."""
    with outputs_of_blocks(encoder, keep=lambda tokens: tokens.mean(1)) as outputs:
        encode(images)
    return torch.stack(outputs)


def vic_by_block(encoder: nn.Module, encode: Callable[[Tensor], object],
                 views: Iterable[tuple[Tensor, Tensor]]) -> VIC:
    """The terms of every block, each (blocks, ), over all images of ``views``, which are pairs of (B, 3, H, W)."""
    pairs = [[block_means(encoder, encode, view) for view in pair[:2]] for pair in views]
    if not pairs:
        raise ValueError('there are no images to look at; give at least two')
    first, second = (torch.cat(parts, 1) for parts in zip(*pairs))  # (blocks, N, D) each
    return VIC(*(torch.stack(values) for values in zip(*(vic(x, y) for x, y in zip(first, second)))))


def draw_vic(terms: dict[str, dict[str, np.ndarray]]) -> Figure:
    """One panel a term over the blocks, one line a model."""
    figure = Figure(figsize=(13, 3.4), layout='constrained')
    for axes, name in zip(figure.subplots(1, len(TERMS)), TERMS):
        for label, values in terms.items():
            axes.plot(np.arange(1, len(values[name]) + 1), values[name], marker='o', markersize=3, label=label)
        axes.set(title=name, xlabel='block')
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    return figure
