"""Parameters that do not move in the first epochs."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.optim import Optimizer

from mm_graft.depth import unwrap
from mm_graft.registry import HOOKS


@HOOKS.register_module()
class HeldParametersHook(Hook):
    """Parameters below ``parts`` keep their values for the first epochs, and get no optimizer state.

    DINO holds the last layer of its head for one epoch, against a collapse at the start
    (``facebookresearch/dino@7c446df``, ``utils.py:cancel_gradients_last_layer``): their gradient is taken away after
    clipping and before the step. It is computed, so that several processes agree on who has one; a resumed run counts
    the epochs that it has behind it.

    Args:
        parts: beginnings of parameters' names, e.g. ``['head.last_layer']``.
        epochs: how many.
    """

    def __init__(self, parts: Sequence[str], epochs: int = 1) -> None:
        if epochs < 1:
            raise ValueError(f'epochs={epochs} holds nothing; choose at least 1, or leave the hook out')
        self.parts, self.epochs = list(parts), epochs

    def before_train(self, runner: Runner) -> None:
        """Find the parameters, and watch the optimizer's steps."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(f'HeldParametersHook counts epochs, which {type(runner.train_loop).__name__} does not; '
                             'train with EpochBasedTrainLoop')
        held = [parameter for part in self.parts for parameter in below(unwrap(runner.model), part)]

        def take_gradients(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
            if runner.epoch < self.epochs:
                for parameter in held:
                    parameter.grad = None

        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(take_gradients)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer alone."""
        self.handle.remove()


def below(model: nn.Module, part: str) -> list[nn.Parameter]:
    """The parameters whose names begin with ``part``."""
    found = [parameter for name, parameter in model.named_parameters() if name.startswith(part)]
    if not found:
        raise ValueError(f'no parameter of {type(model).__name__} begins with {part!r}; look names up with '
                         '`mm_graft inspect`')
    return found
