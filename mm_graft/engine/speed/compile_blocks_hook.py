"""torch.compile, block by block."""

import numpy as np
from torch import nn

from mm_graft.depth import blocks_of, encoders_of
from mm_graft.engine.speed.model_hook import ModelHook
from mm_graft.registry import HOOKS


def make_traceable(block: nn.Module) -> None:
    """Turn NumPy numbers among the attributes into Python's; ``torch.compile`` takes them for tensors.

    The host's drop rates are such numbers, and the test whether they are 0 would split each block into six graphs.
    """
    for module in block.modules():
        for name, value in vars(module).items():
            if isinstance(value, np.generic):
                setattr(module, name, value.item())


def compile_blocks(model: nn.Module, **options) -> int:
    """Compile the forward of each block of the backbone and of its copies (momentum encoders), in place.

    Parameters, names and hooks stay. Blocks of one class and shape share their graphs, so the number of graphs does not
    grow with the depth, nor with the events of progressive freezing (one for trained, one for frozen blocks, one for
    the first trained block whose input has no gradient).

    Returns:
        how many blocks were compiled.
    """
    blocks = [block for encoder in encoders_of(model) for block in blocks_of(encoder)]
    for block in blocks:
        make_traceable(block)
        block.compile(**options)
    return len(blocks)


@HOOKS.register_module()
class CompileBlocksHook(ModelHook):
    """Compiles the backbone's blocks before training: ``custom_hooks=[dict(type='mm_graft.CompileBlocksHook')]``.

    MMEngine's ``compile`` key compiles the whole ``train_step`` with logging and gradient scaler, and makes a new graph
    at every freezing event.

    Args:
        options: of ``torch.compile``: ``mode``, ``backend``, ``dynamic``, …
    """

    title = 'torch.compile, each block on its own'

    def __init__(self, **options) -> None:
        self.options = options

    def apply(self, model: nn.Module) -> int:
        """Compile the blocks of a model; how many there were."""
        return compile_blocks(model, **self.options)
