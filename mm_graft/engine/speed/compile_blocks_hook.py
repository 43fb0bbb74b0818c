"""torch.compile, block by block."""

from contextlib import nullcontext
from copy import deepcopy
from textwrap import shorten

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

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
    """Compile the forward of each block of the backbone and of its copies (momentum encoders), in place; how many.

    Parameters, names and hooks stay. Blocks of one class and shape share their graphs, so the number of graphs does not
    grow with the depth, nor with the events of progressive freezing (one for trained, one for frozen blocks, one for
    the first trained block whose input has no gradient).
    """
    blocks = [block for encoder in encoders_of(model) for block in blocks_of(encoder)]
    for block in blocks:
        make_traceable(block)
        block.compile(**options)
    return len(blocks)


def tokens_and_gradient(block: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What a block makes of tokens (B, N, D), and the gradient of its squares by them."""
    tokens = tokens.clone().requires_grad_()
    made = block(tokens)
    made.float().square().mean().backward()
    return made.detach(), tokens.grad


def fault_of(block: nn.Module, **options) -> str | None:
    """Why a block had better stay as it is: it cannot be compiled here, or gives other numbers then; None if it may.

    Tried on a copy of a block of tokens (B, N, D) without dropping paths. Numbers may differ by a thousandth of the
    largest, under autocast by a twentieth.
    """
    try:
        plain = deepcopy(block).eval()
        make_traceable(plain)
        compiled = deepcopy(plain)
        compiled.compile(**options)
        weight = next(block.parameters())
        width = next(part.normalized_shape[-1] for part in block.modules() if isinstance(part, nn.LayerNorm))
        tokens = torch.randn(2, 17, width, generator=torch.Generator().manual_seed(0)).to(weight.device)
        pairs = list(zip(tokens_and_gradient(plain, tokens), tokens_and_gradient(compiled, tokens)))
    except Exception as error:  # of the compiler, which has many, or of a block that takes something else
        return shorten(f'{type(error).__name__}: {error}', 200)
    tolerance = 5e-2 if torch.is_autocast_enabled(weight.device.type) else 1e-3
    for expected, found in pairs:
        error = ((found - expected).abs().max() / expected.abs().max()).item()
        if not error <= tolerance:
            return f'compiled, it differs by {error:.2g} of its largest value'
    return None


@HOOKS.register_module()
class CompileBlocksHook(ModelHook):
    """Compiles the backbone's blocks before training: ``custom_hooks=[dict(type='mm_graft.CompileBlocksHook')]``.

    MMEngine's ``compile`` key compiles the whole ``train_step`` with logging and gradient scaler, and makes a new graph
    at every freezing event.

    Args:
        check: see first, on a copy of the first block, that it compiles on this machine and gives the same numbers and
            gradients; where not, the blocks stay as they are and the log says why.
        options: of ``torch.compile``: ``mode``, ``backend``, ``dynamic``, …
    """

    title = 'torch.compile, each block on its own'

    def __init__(self, check: bool = False, **options) -> None:
        self.check, self.options = check, options

    def before_train(self, runner: Runner) -> None:
        """Compile, after the check if there is one, in the precision of the run."""
        if self.check:
            wrapper, first = runner.optim_wrapper, blocks_of(encoders_of(runner.model)[0])[0]
            with wrapper.optim_context(runner.model) if isinstance(wrapper, OptimWrapper) else nullcontext():
                fault = fault_of(first, **self.options)
            if fault:
                runner.logger.warning(f'the blocks are not compiled. {fault}')
                return
        super().before_train(runner)

    def apply(self, model: nn.Module) -> int:
        """Compile the blocks of a model; how many there were."""
        return compile_blocks(model, **self.options)
