"""Normalization of images of any number of channels."""

from collections.abc import Sequence

import torch
from mmpretrain.models.utils import SelfSupDataPreprocessor

from mm_graft.registry import MODELS


@MODELS.register_module()
class ChannelPreprocessor(SelfSupDataPreprocessor):
    """The host's ``SelfSupDataPreprocessor``, which takes a mean and a deviation for each of 1 or 3 channels alone.

    Args:
        mean: of each channel, in 0…255.
        std: of each channel, in 0…255.
        kwargs: as for the host's.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs) -> None:
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f'mean={list(mean)} and std={list(std)} must be as many, and each std positive')
        super().__init__(mean=[0.0], std=[1.0], **kwargs)
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)
