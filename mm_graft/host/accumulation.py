"""How many iterations make a step of the optimizer, which MMEngine's wrapper is told and does not tell."""

from mmengine.optim import OptimWrapper
from torch.optim import Optimizer


def iterations_a_step(optimizer: OptimWrapper | Optimizer) -> int:
    """Iterations whose gradients make one step; 1 for a plain optimizer of PyTorch's."""
    return getattr(optimizer, '_accumulative_counts', 1)
