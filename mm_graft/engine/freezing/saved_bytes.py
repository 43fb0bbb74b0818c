"""How much autograd keeps for the backward pass."""

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef


class SavedBytes:
    """Counts the bytes that autograd keeps for the backward pass; parameters and buffers are not counted."""

    def __init__(self, model: nn.Module):
        known = [*model.parameters(), *model.buffers()]
        self._seen = {StorageWeakRef(tensor.untyped_storage()) for tensor in known}
        self.total = 0

    def __call__(self) -> saved_tensors_hooks:
        """The context in which to run the forward pass."""
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if StorageWeakRef(storage) not in self._seen:
            self._seen.add(StorageWeakRef(storage))
            self.total += storage.nbytes()
        return tensor
