"""Two augmented views and the barely augmented image, made in batches on the device."""

import torch
from torch import Tensor

from mm_graft.models.data_preprocessors.two_views import TwoViewPreprocessor, crop_and_flip, crop_boxes
from mm_graft.registry import MODELS


@MODELS.register_module()
class ViewsAndImagePreprocessor(TwoViewPreprocessor):
    """What ``mm_graft.JointMIMCL`` takes: both views of ``TwoViewPreprocessor``, then the image with a crop and a flip.

    Args:
        image_scale: share of the area that the image's crop keeps, from, to; MAE's is (0.2, 1).
        image_size: height and width of the image, which a decoder for whole images fixes; that of the views if None.
        kwargs: as for ``TwoViewPreprocessor``.
    """

    def __init__(self, image_scale: tuple[float, float] = (0.2, 1.0),
                 image_size: tuple[int, int] | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 < image_scale[0] <= image_scale[1] <= 1:
            raise ValueError(f'image_scale={image_scale} is the share of the image that a crop keeps; choose '
                             '0 < from ≤ to ≤ 1')
        self.image_scale = image_scale
        self.image_size = image_size

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Images of a batch, (B, C, H, W) in 0…255 → [view, view, image]; in test mode one normalized batch."""
        data = self.cast_data(data)
        result = super().forward(data, training)
        if training:
            image = self.crop(self.in_order(data['inputs']))
            result['inputs'] = [*result['inputs'], self.normalize(image)]
        return result

    def crop(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), with a random crop and flip per image."""
        boxes = crop_boxes(len(images), self.image_scale, self.ratio, images)
        flip = torch.rand(len(images), device=images.device) < self.flip_probability
        return crop_and_flip(images, boxes, flip, self.image_size or self.size or images.shape[-2:])
