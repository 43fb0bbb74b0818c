"""Data-parallel training without a GPU."""

from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import nn

from mm_graft.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class CPUDataParallel(MMDistributedDataParallel):
    """The host's wrapper with batch norm per process: PyTorch synchronizes it on GPUs only."""

    def __init__(self, module: nn.Module, **kwargs) -> None:
        super().__init__(revert_sync_batchnorm(module), **kwargs)
