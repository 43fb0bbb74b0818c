"""Two global and several local views of every image, made in batches on the device."""

import torch
from torch import Tensor

from mm_graft.models.data_preprocessors.two_views import TwoViewPreprocessor
from mm_graft.registry import MODELS


@MODELS.register_module()
class MultiCropPreprocessor(TwoViewPreprocessor):
    """Both views of ``TwoViewPreprocessor``, then small views of small parts of the image (multi-crop, SwAV).

    Local views are jittered, grayed and mirrored as the others are, and never solarized, as in MIM-Refiner.

    Args:
        num_local: local views of an image.
        local_size: their height and width.
        local_scale: share of the area that a local crop keeps, from, to.
        local_blur_probability: of each local view.
        kwargs: as for ``TwoViewPreprocessor``.
    """

    def __init__(self, num_local: int, local_size: tuple[int, int], local_scale: tuple[float, float] = (0.05, 0.25),
                 local_blur_probability: float = 0.5, **kwargs) -> None:
        super().__init__(**kwargs)
        if num_local < 1:
            raise ValueError(f'num_local={num_local}; for global views alone use mm_graft.TwoViewPreprocessor')
        if not 0 < local_scale[0] <= local_scale[1] <= 1:
            raise ValueError(f'local_scale={local_scale} is the share of the image that a crop keeps; choose '
                             '0 < from ≤ to ≤ 1')
        if not 0 <= local_blur_probability <= 1:
            raise ValueError(f'local_blur_probability={local_blur_probability} is outside [0, 1]')
        self.num_local, self.local_size, self.local_scale = num_local, tuple(local_size), local_scale
        self.local_blur_probability = local_blur_probability

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Images of a batch, (B, C, H, W) in 0…255 → a list of views, global ones first; in test mode one batch."""
        data = self.cast_data(data)
        result = super().forward(data, training)
        if training:
            result['inputs'] = [*result['inputs'], *self.local_views(data['inputs'])]
        return result

    def local_views(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized local views of images in 0…255, made as one batch."""
        images = self.in_order(images) / 255
        many = images.repeat(self.num_local, 1, 1, 1)  # (B, C, H, W) → (L·B, C, H, W)
        views = self.augment(many, self.local_size, self.local_scale, self.local_blur_probability, 0.0)
        return self.normalize(views * 255).chunk(self.num_local)
