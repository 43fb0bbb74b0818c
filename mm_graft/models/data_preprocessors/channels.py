"""Normalization of images of any number of channels."""

from collections.abc import Sequence

import torch
from mmpretrain.models.utils import SelfSupDataPreprocessor
from torch import Tensor

from mm_graft.registry import MODELS


@MODELS.register_module()
class ChannelPreprocessor(SelfSupDataPreprocessor):
    """The host's ``SelfSupDataPreprocessor`` for any number of channels; nothing in it waits for the device.

    The host turns BGR into RGB by an index list, for whose copy to the device the CPU waits at each step.

    Args:
        mean: of each channel, in 0…255.
        std: of each channel, in 0…255.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs) -> None:
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f'mean={list(mean)} and std={list(std)} must be as many, and each std positive')
        super().__init__(mean=[0.0], std=[1.0], **kwargs)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalized images (B, C, H, W), or a list of views of them, of a batch in 0…255."""
        data = self.cast_data(data)
        views = data['inputs']
        if isinstance(views, list):
            return {**data, 'inputs': [self.normalize(self.in_order(view)) for view in views]}
        return {**data, 'inputs': self.normalize(self.in_order(views))}

    def in_order(self, images: Tensor) -> Tensor:
        """Images as numbers, their channels in the order of mean and deviation."""
        return (images.flip(1) if self._channel_conversion else images).float()

    def normalize(self, images: Tensor) -> Tensor:
        """Subtract the mean, divide by the standard deviation."""
        return (images - self.mean) / self.std
