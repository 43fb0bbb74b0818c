"""Mixed precision without a gradient scaler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mm_graft.precision import has_bfloat16
from mm_graft.registry import OPTIM_WRAPPERS


@cache
def _say_float32(device: str) -> None:
    print_log(f'this {device} has no bfloat16 in hardware: the steps run in float32', logger='current')


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """bf16 autocast around the forward pass where the hardware has the format; elsewhere fp32, and the log says so.

    bf16 has the range of fp32, so nothing has to be scaled. The host's ``AmpOptimWrapper`` builds a gradient scaler all
    the same, which waits for the device at every step, and refuses to run on a CPU.

    Nor does clipping wait for the device: the norm of the gradients is logged by hooks that set ``keep_norm`` (name,
    norm → None), as ``mm_graft.DeferredInfoHook`` does; otherwise at once, as the host does.
    """

    keep_norm: Callable[[str, Tensor], None] | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the forward pass."""
        device = next(model.parameters()).device.type
        native = has_bfloat16(device)
        if not native:
            _say_float32(device)
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16, enabled=native):
            yield

    def _clip_grad(self) -> None:
        if self.keep_norm is None:
            return super()._clip_grad()
        params = [param for group in self.optimizer.param_groups for param in group['params'] if param.grad is not None]
        if params:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
            if norm is not None:
                self.keep_norm(f'train/{self.grad_name}', norm.full_tensor() if isinstance(norm, DTensor) else norm)
