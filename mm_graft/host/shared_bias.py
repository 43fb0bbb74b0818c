"""A bias of relative positions that all blocks share does not keep frozen blocks in the backward pass.

BEiT and ConMIM pass one table to every block. It belongs to the last depth and keeps training, so its gradient would
flow through the attention of the frozen blocks below. The host has no option to prevent that.
"""

from torch import Tensor, nn


def cut_shared_bias(backbone: nn.Module) -> None:
    """Give blocks without a trained parameter the shared bias without its gradient; calling it again changes nothing.

    A backbone without such a bias is left alone.
    """
    if getattr(backbone, 'rel_pos_bias', None) is None:
        return
    for block in getattr(backbone, 'layers', ()):
        if not hasattr(block, 'shared_bias_cut'):
            block.shared_bias_cut = True
            block.register_forward_pre_hook(_detach_if_frozen, with_kwargs=True)


def _detach_if_frozen(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    if any(parameter.requires_grad for parameter in block.parameters()):
        return None
    tokens, *biases = args
    return (tokens, *map(_detach, biases)), {name: _detach(value) for name, value in kwargs.items()}


def _detach(value: object) -> object:
    return value.detach() if isinstance(value, Tensor) else value
