"""Activation checkpointing, block by block, that survives freezing."""

from functools import wraps

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mm_graft.depth import blocks_of
from mm_graft.engine.speed.model_hook import ModelHook
from mm_graft.registry import HOOKS


def recompute(block: nn.Module) -> None:
    """Let a block recompute its activations in the backward pass instead of keeping them, in place.

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


@HOOKS.register_module()
class CheckpointBlocksHook(ModelHook):
    """Recomputes each block of the backbone in the backward pass: less memory, a third more time.

    ``custom_hooks=[dict(type='mm_graft.CheckpointBlocksHook')]`` works with every encoder that ``mm_graft.depth``
    knows. MMEngine's ``activation_checkpointing`` is reentrant: it drops, without an error, the gradients of a block
    whose input has none, which is the first one above a frozen prefix.
    """

    title = 'activation checkpointing, each block on its own'

    def apply(self, model: nn.Module) -> int:
        """Change the blocks of a model; how many there were."""
        blocks = blocks_of(model)
        for block in blocks:
            recompute(block)
        return len(blocks)
