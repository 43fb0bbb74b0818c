"""Resizing an image so that it just covers a size, whatever the aspects of both."""

import mmcv
from mmcv.transforms import BaseTransform

from mm_graft.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeToCover(BaseTransform):
    """Scale an image, its aspect kept, so that height and width are at least those given and one is equal.

    For a square it is the host's ``ResizeEdge(edge='short')``, which knows one number only.

    Args:
        scale: height and width, in pixels.
        backend: as in the host's transforms.
        interpolation: as in the host's transforms.
    """

    def __init__(self, scale: tuple[int, int], backend: str = 'cv2', interpolation: str = 'bilinear') -> None:
        self.height, self.width = scale
        self.backend, self.interpolation = backend, interpolation

    def transform(self, results: dict) -> dict:
        """Resize ``img``."""
        height, width = results['img'].shape[:2]
        if height * self.width <= width * self.height:  # the image is wider than what it has to cover
            size = max(self.width, int(self.height * width / height)), self.height
        else:
            size = self.width, max(self.height, int(self.width * height / width))
        results['img'] = mmcv.imresize(results['img'], size, interpolation=self.interpolation, backend=self.backend)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(scale=({self.height}, {self.width}), backend={self.backend!r}, '
                f'interpolation={self.interpolation!r})')
