"""What a training step costs, counted and not timed: floating point operations, saved activations, bytes reduced."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mm_graft.engine.freezing.saved_bytes import SavedBytes


def count_flops(loss: Callable[[], Tensor]) -> int:
    """FLOPs of ``loss()`` and of its backward pass: two per multiply-add of matrix products and convolutions.

    PyTorch's counter does not know the fused attention of CPUs, and counts what the fused kernels of GPUs recompute in
    the backward pass. So attention runs unfused here, as two products forward and four backward, whatever the device
    (the meta device, too).
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss().backward()
    return counter.get_total_flops()


def saved_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps between forward and backward pass of ``loss()``, without the model's own tensors."""
    saved = SavedBytes(model)
    with saved():
        loss()
    return saved.total


def saved_bytes_per_image(model: nn.Module, loss_of: Callable[[int], Tensor], few: int = 2) -> float:
    """Growth of :func:`saved_bytes` per image, from ``few`` images to twice as many.

    What a batch keeps only once (weights cast to bf16, position tables) is thereby left out.

    Args:
        model: whose tensors are not counted.
        loss_of: number of images → loss.
        few: images of the smaller batch; batch norm needs two.
    """
    smaller, larger = (saved_bytes(model, lambda images=images: loss_of(images)) for images in (few, 2 * few))
    return (larger - smaller) / few


def reduced_bytes(model: nn.Module) -> int:
    """Bytes of gradients that data-parallel training sums over the processes in each step."""
    return sum(param.numel() * param.element_size() for param in model.parameters() if param.requires_grad)
