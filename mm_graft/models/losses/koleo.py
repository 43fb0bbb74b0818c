r"""KoLeo: features of different images keep their distance (Sablayrolles et al., ICLR 2019; DINOv2).

.. math::
    L = -\frac1B \sum_i \log \Big( \min_{j \neq i} \lVert x_i - x_j \rVert + \epsilon \Big), \qquad
    \lVert x_i \rVert = 1

the Kozachenko-Leonenko estimate of the entropy, up to constants (``facebookresearch/dinov2@b8931f7``,
``dinov2/loss/koleo_loss.py``).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mm_graft.equations import at_least_float32

EPS = 1e-8


def koleo(features: Tensor) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest other image, of features (B, D), normalized here.

    Among the images of this process, as in the authors' code; in single precision at least.
    """
    if len(features) < 2:
        raise ValueError(f'KoLeo keeps images apart, but this process has {len(features)} in its batch; '
                         'take a batch of at least 2, or koleo_weight=0')
    with torch.autocast(features.device.type, enabled=False):
        x = F.normalize(at_least_float32(features), dim=-1, eps=EPS)
        with torch.no_grad():
            nearest = (x @ x.T).fill_diagonal_(-1).argmax(1)
        return -(F.pairwise_distance(x, x[nearest], eps=EPS) + EPS).log().mean()
