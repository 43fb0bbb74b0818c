r"""VICReg's loss: views agree, every dimension varies, no two dimensions say the same (Bardes et al., ICLR 2022).

.. math::
    L = 25 \, \mathrm{MSE}(x, y) + 25 \, \tfrac12 \sum_z v(z) + \sum_z c(z), \quad
    v(z) = \frac1D \sum_d \max(0, 1 - \sqrt{\mathrm{Var}(z_d) + 10^{-4}}), \quad
    c(z) = \frac1D \sum_{i \neq j} \mathrm{Cov}(z)_{ij}^2, \quad z \in \{x, y\}

as in ``VITA-Group/layerGraftedPretraining_ICLR23@f1862e1`` (``utils/utils.py``), which grafts it (paper, Table 4). The
invariance is taken over the local batch, variance and covariance over the features of all processes.
"""

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.equations import at_least_float32, off_diagonal_energy
from mm_graft.models.gather import gather_with_gradient
from mm_graft.registry import MODELS


def variance_term(z: Tensor) -> Tensor:
    """How much the standard deviations of features (N, D) fall short of 1: the mean hinge v(z), unbiased variance."""
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def covariance_term(z: Tensor) -> Tensor:
    """Sum of the squared off-diagonal covariances of features (N, D), over D: c(z)."""
    return off_diagonal_energy(z - z.mean(0)) / z.shape[1]


def vicreg(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance (mean of both views) and covariance (sum of both views) of features (B, D), unweighted."""
    gathered = [gather_with_gradient(view) for view in (first, second)]
    variance = sum(variance_term(view) for view in gathered) / 2
    covariance = sum(covariance_term(view) for view in gathered)
    return F.mse_loss(first, second), variance, covariance


@MODELS.register_module()
class VICRegLoss(nn.Module):
    """The weighted terms of :func:`vicreg`, in single precision.

    Args:
        invariance_weight: of the mean squared difference.
        variance_weight: of the hinge.
        covariance_weight: of the off-diagonal covariances.
    """

    def __init__(self, invariance_weight: float = 25.0, variance_weight: float = 25.0,
                 covariance_weight: float = 1.0) -> None:
        super().__init__()
        self.weights = {'invariance': invariance_weight, 'variance': variance_weight, 'covariance': covariance_weight}
        if min(self.weights.values()) < 0:
            raise ValueError(f'weights of VICReg {self.weights} must be ≥ 0')

    def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Terms ``loss_invariance``, ``loss_variance`` and ``loss_covariance`` of two views (B, D)."""
        if len(first) * get_world_size() < 2:
            raise ValueError('VICReg needs at least two images in a batch, since it measures their variance')
        with torch.autocast(first.device.type, enabled=False):
            terms = vicreg(at_least_float32(first), at_least_float32(second))
        return {f'loss_{name}': weight * term for (name, weight), term in zip(self.weights.items(), terms)}
