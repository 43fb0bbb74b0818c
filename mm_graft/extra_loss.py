"""A further term in the sum of any algorithm's losses, with nothing to subclass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def add_loss(model: nn.Module, name: str, term: Callable[[], Tensor]) -> RemovableHandle:
    """Let the losses that a model returns include ``term()`` as ``name``, until the handle removes it.

    MMEngine asks a model for its losses by ``model(…, mode='loss')``, so a forward hook of PyTorch's adds to them. The
    term is computed without autocast; ``name`` has to contain ``loss``, or it is logged and not summed. MMEngine logs
    the total as ``loss``; a term of the algorithm's of that very name would hide it, and becomes ``loss_task``.
    """

    def join(module: nn.Module, args: tuple, kwargs: dict, losses: dict) -> dict | None:
        if kwargs.get('mode') != 'loss':
            return None
        terms = {'loss_task' if key == 'loss' else key: value for key, value in losses.items()}
        device = next(model.parameters()).device.type
        with torch.autocast(device, enabled=False):
            return {**terms, name: term()}

    return model.register_forward_hook(join, with_kwargs=True)
