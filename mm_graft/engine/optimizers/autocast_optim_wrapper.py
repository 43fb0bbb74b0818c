"""Mixed precision without a gradient scaler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mm_graft.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """bf16 autocast around the forward pass, on whatever device the model is.

    bf16 has the range of fp32, so nothing has to be scaled. The host's ``AmpOptimWrapper`` builds a gradient scaler all
    the same, which waits for the device at every step, and refuses to run on a CPU.

    Nor does clipping wait for the device: the norm of the gradients is logged by whoever sets ``keep_norm`` (name,
    norm → None), as ``mm_graft.DeferredInfoHook`` does; otherwise at once, as the host does.

    Args:
        kwargs: as for mmengine's ``OptimWrapper``.
    """

    keep_norm: Callable[[str, Tensor], None] | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the forward pass."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield

    def _clip_grad(self) -> None:
        if self.keep_norm is None:
            return super()._clip_grad()
        params = [param for group in self.optimizer.param_groups for param in group['params'] if param.grad is not None]
        if params:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
            if norm is not None:
                self.keep_norm(f'train/{self.grad_name}', norm.full_tensor() if isinstance(norm, DTensor) else norm)
