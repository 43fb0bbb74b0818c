"""How much autograd keeps for the backward pass."""

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class SavedBytes:
    """Counts the bytes that autograd keeps for the backward pass; parameters and buffers are not counted.

    Args:
        model: its parameters and buffers are there anyway.
    """

    def __init__(self, model: nn.Module):
        known = [*model.parameters(), *model.buffers()]
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.total = 0

    def __call__(self) -> saved_tensors_hooks:
        """The context in which to run the forward pass."""
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.total += storage.nbytes()
        return tensor
