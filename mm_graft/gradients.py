r"""The gradients of two losses, block by block: do they pull the same way?

.. math::
    C(x) = \frac{\nabla_\theta L_1(x)^\top \nabla_\theta L_2(x)}
                {\lVert \nabla_\theta L_1(x) \rVert \, \lVert \nabla_\theta L_2(x) \rVert}

(Jiang et al., Layer Grafted Pre-training, ICLR 2023, Eq. 3). θ are all parameters of one block that train, weights,
biases and norms, put into one vector; the paper does not say which it took, and its authors released no code for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.model import BaseAveragedModel
from torch import Tensor, nn

from mm_graft.depth import depth_map, unwrap
from mm_graft.equations import at_least_float32


class Conflict(NamedTuple):
    """How two gradients lie to each other in every block, each of shape (num_blocks,).

    ``cosine`` is NaN where one of the gradients is zero or the block does not train.
    """

    cosine: Tensor
    dot: Tensor
    first_norm: Tensor
    second_norm: Tensor


def parameters_by_block(model: nn.Module) -> list[list[nn.Parameter]]:
    """Trained parameters of every transformer block of the encoder, first block first.

    Stem, final norm, necks, heads and copies of the encoder are left out.
    """
    model = unwrap(model)
    depths = depth_map(model)
    blocks: list[list[nn.Parameter]] = [[] for _ in range(depths.num_blocks)]
    for name, parameter in model.named_parameters():
        inside = 1 <= depths.depths[name] <= depths.num_blocks
        if inside and name.startswith(depths.prefix) and parameter.requires_grad:
            blocks[depths.depths[name] - 1].append(parameter)
    if not any(blocks):
        raise ValueError('no block of the encoder trains, so no loss has a gradient there; unfreeze some')
    return blocks


def block_gradients(loss: Tensor, blocks: list[list[nn.Parameter]], retain_graph: bool | None = None) -> list[Tensor]:
    """Gradient of a loss as one vector a block; zero where the loss does not reach. Leaves ``.grad`` alone."""
    parameters = [parameter for block in blocks for parameter in block]
    gradients = iter(torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True))
    vectors = []
    for block in blocks:
        parts = [(parameter, next(gradients)) for parameter in block]
        flat = [torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
                for parameter, gradient in parts]
        vectors.append(at_least_float32(torch.cat(flat) if flat else loss.new_zeros(0)))
    return vectors


def compare(first: list[Tensor], second: list[Tensor]) -> Conflict:
    """Cosine, inner product and norms of two gradients, given as one vector a block."""
    dot = torch.stack([one @ other for one, other in zip(first, second)])
    first_norm, second_norm = (torch.stack([vector.norm() for vector in vectors]) for vectors in (first, second))
    return Conflict(dot / (first_norm * second_norm), dot, first_norm, second_norm)


def gradient_conflict(model: nn.Module, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Conflict:
    """Conflict of two losses of the same images in the blocks of ``model``, without mixed precision.

    Two forwards and two backwards, one after the other; gradients (``.grad``) of the model are neither read nor
    changed. What the losses themselves change (statistics of batch norm, averages, random states) is the caller's
    matter; see :func:`undisturbed`.
    """
    blocks = parameters_by_block(model)
    with full_precision(model):
        return compare(block_gradients(first(), blocks), block_gradients(second(), blocks))


def terms_conflict(model: nn.Module, losses: Callable[[], dict[str, Tensor]], names: tuple[str, str]) -> Conflict:
    """Conflict of two terms of one algorithm's losses, without mixed precision: one forward and two backwards."""
    blocks = parameters_by_block(model)
    with full_precision(model):
        terms = losses()
        for name in names:
            term = terms.get(name)
            if not isinstance(term, Tensor) or term.numel() != 1 or not term.requires_grad:
                raise ValueError(f'loss term {name!r} is no scalar with a gradient; this algorithm gives '
                                 f'{sorted(terms)}; name two of them')
        first = block_gradients(terms[names[0]], blocks, retain_graph=True)
        return compare(first, block_gradients(terms[names[1]], blocks))


@contextmanager
def full_precision(model: nn.Module) -> Iterator[None]:
    """No autocast, and gradients on, on the device of the model."""
    device = next(unwrap(model).parameters()).device
    with torch.autocast(device.type, enabled=False), torch.enable_grad():
        yield


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let forwards happen as if they had not: buffers are restored afterwards, and averages too.

    No loss of this package moves an average; the host's MoCo v3 moves its own in ``loss``.
    """
    averages = [module for module in unwrap(model).modules() if isinstance(module, BaseAveragedModel)]
    kept = [*unwrap(model).buffers(), *(parameter for average in averages for parameter in average.parameters())]
    before = [tensor.detach().clone() for tensor in kept]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(kept, before):
                tensor.copy_(value)
