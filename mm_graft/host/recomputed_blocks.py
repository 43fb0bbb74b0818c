"""Blocks that recompute their activations in the backward pass.

PyTorch recomputes a function, not a module, so the block's ``forward`` is replaced by one that is recomputed, as
MMEngine does for ``activation_checkpointing``; a wrapper module would change the names of the parameters.
"""

from functools import wraps

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(block: nn.Module) -> None:
    """Make a block recompute its activations in the backward pass, in place.

    Where nothing is differentiated (no gradients wanted, or a frozen block behind a frozen prefix) it runs as before.
    """
    forward = block.forward

    @wraps(forward)
    def run(*args, **kwargs):
        inputs = [value for value in (*args, *kwargs.values(), *block.parameters()) if isinstance(value, Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return checkpoint(forward, *args, use_reentrant=False, **kwargs)
        return forward(*args, **kwargs)

    block.forward = run
