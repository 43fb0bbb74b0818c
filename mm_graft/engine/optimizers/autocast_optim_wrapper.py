"""Mixed precision without a gradient scaler."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mm_graft.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """bf16 autocast around the forward pass, on whatever device the model is.

    bf16 has the range of fp32, so nothing has to be scaled. The host's ``AmpOptimWrapper`` builds a gradient scaler all
    the same, which waits for the device at every step, and refuses to run on a CPU.

    Args:
        kwargs: as for mmengine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the forward pass."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
