"""Taking a prefix of a network out of training, and checking that nothing else left with it.

A prefix is every parameter of depth ≤ k, class token, position embedding and the decoders that hang on it included: one
live token at the bottom keeps autograd running through all frozen blocks and halves the saving.
"""

import re
from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.optim import Optimizer

from mm_graft.depth import DepthMap

STEM_DROPOUT = re.compile(r'(^|\.)(drop_after_pos|pos_drop)$')


def prefix_parameters(model: nn.Module, depths: DepthMap, depth: int) -> list[nn.Parameter]:
    """Parameters of ``depth`` and below, copies of the backbone (momentum encoders) included."""
    return [param for name, param in model.named_parameters() if depths.depths[name] <= depth]


def prefix_modules(model: nn.Module, depths: DepthMap, depth: int) -> list[nn.Module]:
    """The largest modules all of whose parameters have ``depth`` or less, and the dropout of the stem."""
    deepest: dict[str, int] = {}
    for name, value in depths.depths.items():
        parts = name.split('.')
        for length in range(len(parts)):
            owner = '.'.join(parts[:length])
            deepest[owner] = max(deepest.get(owner, 0), value)
    frozen = {name for name, value in deepest.items() if value <= depth}
    return [module for name, module in model.named_modules()
            if (name in frozen and name.rpartition('.')[0] not in frozen) or STEM_DROPOUT.search(name)]


def freeze_parameters(params: Iterable[nn.Parameter], optimizer: Optimizer) -> None:
    """Stop training: no gradient, no optimizer state, so neither weight decay nor momentum moves them any more."""
    for param in params:
        param.requires_grad_(False)
        param.grad = None
        optimizer.state.pop(param, None)


class GradientWatch:
    """Notes which parameters a backward pass reaches.

    A compiled block may reuse a stale frame after parameters changed `requires_grad`, and reentrant checkpointing drops
    gradients behind a frozen prefix; neither raises an error by itself.
    """

    def __init__(self, named_params: Iterable[tuple[str, nn.Parameter]]):
        self.reached: set[str] = set()
        self._handles = [param.register_post_accumulate_grad_hook(partial(self._note, name))
                         for name, param in named_params if param.requires_grad]

    def _note(self, name: str, param: nn.Parameter) -> None:
        self.reached.add(name)

    def close(self) -> set[str]:
        """Stops watching; the names that got a gradient."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return self.reached
