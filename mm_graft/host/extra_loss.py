"""A further term in the sum of any algorithm's losses.

MMEngine sums and logs what ``loss()`` returns in ``parse_losses``, and gives hooks no way to add to it; subclassing
each algorithm for each term would multiply classes. So the model's bound method is wrapped while a training runs.
"""

from collections.abc import Callable

from torch import Tensor, nn


def add_loss(model: nn.Module, name: str, term: Callable[[], Tensor]) -> None:
    """Let every step's losses include ``term()`` as ``name``, which has to begin with ``loss``.

    MMEngine logs the total as ``loss``; a task's term of that very name would hide it, and is logged as ``loss_task``.
    """
    parse_losses = model.parse_losses

    def parse_with_term(losses: dict) -> tuple:
        terms = {'loss_task' if key == 'loss' else key: value for key, value in losses.items()}
        return parse_losses({**terms, name: term()})

    model.parse_losses = parse_with_term


def remove_losses(model: nn.Module) -> None:
    """Take back all that :func:`add_loss` has added."""
    vars(model).pop('parse_losses', None)
