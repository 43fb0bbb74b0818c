"""torch.compile, block by block."""

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mm_graft.depth import block_counts, find_backbone, unwrap
from mm_graft.registry import HOOKS


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """Transformer blocks of a backbone, in order."""
    block_counts(backbone)  # says which backbones are known
    if hasattr(backbone, 'stages'):
        return [block for stage in backbone.stages for block in stage.blocks]
    return list(getattr(backbone, 'layers', None) or backbone.blocks)


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
    backbone = find_backbone(model)[1]
    copies = [module for module in unwrap(model).modules() if type(module) is type(backbone)]
    blocks = [block for copy in copies for block in blocks_of(copy)]
    for block in blocks:
        make_traceable(block)
        block.compile(**options)
    return len(blocks)


@HOOKS.register_module()
class CompileBlocksHook(Hook):
    """Compiles the backbone's blocks before training: ``custom_hooks=[dict(type='mm_graft.CompileBlocksHook')]``.

    MMEngine's ``compile`` key compiles the whole ``train_step`` with logging and gradient scaler, and makes a new graph
    at every freezing event.

    Args:
        options: of ``torch.compile``: ``mode``, ``backend``, ``dynamic``, …
    """

    priority = 'VERY_LOW'

    def __init__(self, **options) -> None:
        self.options = options

    def apply(self, model: nn.Module) -> int:
        """Compile the blocks of a model; how many there were."""
        return compile_blocks(model, **self.options)

    def before_train(self, runner: Runner) -> None:
        """Compile, after other hooks may have changed the blocks."""
        number = self.apply(runner.model)
        runner.logger.info(f'torch.compile: {number} blocks, each on its own')


def compile_as_configured(model: nn.Module, custom_hooks: list[dict] | None) -> int:
    """What the `CompileBlocksHook` among a config's hooks would do, if it has one; how many blocks were compiled."""
    hooks = [HOOKS.build(hook) for hook in custom_hooks or [] if hook['type'] == 'mm_graft.CompileBlocksHook']
    return sum(hook.apply(model) for hook in hooks)
