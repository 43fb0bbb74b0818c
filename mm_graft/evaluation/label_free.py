r"""How much of its space a representation uses: measures of progress that need no labels.

RankMe (Garrido et al., ICML 2023, arXiv 2210.02885, eq. 1) is the exponential of the entropy of the singular values σ
of the features, between 1 and their width:

.. math:: p_k = \frac{\sigma_k}{\lVert\sigma\rVert_1} + \varepsilon, \qquad \exp\Bigl(-\sum_k p_k \log p_k\Bigr).

α-ReQ (Agrawal et al., NeurIPS 2022) is the exponent of the power law :math:`\lambda_j \propto j^{-\alpha}` that the
eigenvalues of the covariance follow; near 1 is best, far above it few directions hold everything.

LiDAR (Thilak et al., ICLR 2024, arXiv 2312.04000, eq. 1 to 4) is RankMe's entropy for the eigenvalues of
:math:`\Sigma_w^{-1/2} \Sigma_b \Sigma_w^{-1/2}`, the scatter between images measured by that between views of one
image: directions that augmentations move do not count.

All three compare checkpoints of one method on the same images; none replaces labels across methods.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-7
VIEWS = 4  # crops of an image for LiDAR
KEPT = 0.75  # of the sides of an image that a crop keeps
BATCH = 50
DELTA = 1e-4  # added to the diagonal of the scatter between views, as in LiDAR's paper


def effective_rank(spectrum: Tensor) -> float:
    """Exponential of the entropy of a spectrum (K, ) that is negative by rounding at most; 0 if all of it is 0."""
    total = spectrum.sum()
    if total <= 0:
        return 0.0
    share = spectrum / total + EPSILON
    return torch.exp(-(share * share.log()).sum()).item()


def rank_me(features: Tensor) -> float:
    """RankMe of features (N, D), neither centered nor scaled."""
    return effective_rank(torch.linalg.svdvals(features.double()))


def alpha_req(features: Tensor, first: int = 1, last: int | None = None) -> float:
    """Exponent α of the decay of the eigenvalues of features (N, D), by least squares in logarithms.

    The fit goes from the eigenvalue ``first``, counted from 1, to ``last``, or to the last positive one.

    Raises:
        ValueError: fewer than two positive eigenvalues in the range.
    """
    centered = features.double() - features.double().mean(0)
    eigenvalues = torch.linalg.svdvals(centered).square() / (len(features) - 1)
    positive = eigenvalues[eigenvalues > eigenvalues[0] * 1e-12]
    chosen = positive[first - 1:last]
    if len(chosen) < 2:
        raise ValueError(f'{len(positive)} positive eigenvalues leave fewer than two from {first} to {last}; give more '
                         'images')
    index = torch.arange(first, first + len(chosen), dtype=torch.float64).log()
    index, logs = index - index.mean(), chosen.log()
    return -((index * (logs - logs.mean())).sum() / index.square().sum()).item()


def lidar(views: Tensor) -> float:
    """LiDAR of the features of several views of each image, (images, views, D)."""
    count, per_image, width = views.shape
    if count < 2 or per_image < 2:
        raise ValueError(f'{count} images with {per_image} views; LiDAR compares at least two of each')
    views = views.double()
    means = views.mean(1)  # (n, q, D) → (n, D)
    between = torch.cov(means.T)
    inner = (views - means[:, None]).reshape(-1, width)
    within = inner.T @ inner / (count * (per_image - 1)) + DELTA * torch.eye(width, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(within)
    whitening = vectors @ (values.rsqrt()[:, None] * vectors.T)
    return effective_rank(torch.linalg.eigvalsh(whitening @ between @ whitening))


@torch.no_grad()
def label_free_measures(encode: Callable[[Tensor], Tensor], pixels: Tensor,
                        features: Tensor | None = None) -> dict[str, float]:
    """``rank_me``, ``lidar`` and ``alpha_req`` of an encoder on images (N, C, H, W); no ``alpha_req`` if collapsed.

    LiDAR's views are random crops, the same ones for every call, of the first half of the images. ``features`` (N, D)
    of the images may be known already.
    """
    def features_of(images: Tensor) -> Tensor:
        return torch.cat([encode(part.float()).float().cpu() for part in images.split(BATCH)])

    features = features_of(pixels) if features is None else features
    chosen = pixels[:max(2, len(pixels) // 2)]
    views = torch.stack([features_of(view) for view in crops(chosen)], 1)  # (n, q, D)
    found = {'rank_me': rank_me(features), 'lidar': lidar(views)}
    try:
        return {**found, 'alpha_req': alpha_req(features)}
    except ValueError:  # fewer than two directions have no decay
        return found


def crops(pixels: Tensor, seed: int = 0) -> list[Tensor]:
    """``VIEWS`` times a random crop of all images (N, C, H, W), at the same place of each, scaled to their size."""
    generator = torch.Generator().manual_seed(seed)
    size = pixels.shape[-2:]
    height, width = (max(1, round(KEPT * side)) for side in size)
    views = []
    for _ in range(VIEWS):
        top, left = (int(torch.randint(side - kept + 1, (), generator=generator))
                     for side, kept in zip(size, (height, width)))
        part = pixels[..., top:top + height, left:left + width].float()
        views.append(F.interpolate(part, size, mode='bilinear'))
    return views
