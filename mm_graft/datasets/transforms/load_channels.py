"""Loading images of any number of channels at the depth of the file."""

import numpy as np

from mm_graft.channel_files import stored_channels, to_byte_range
from mm_graft.datasets.transforms.tolerant_image import TolerantLoadImageFromFile
from mm_graft.image_files import BadImageError, darkness, read_image_bytes
from mm_graft.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadChannels(TolerantLoadImageFromFile):
    """Load images by the rules of :mod:`mm_graft.channel_files`: (H, W, C), float32 in 0…255.

    Channels stand in the order of the file, so that the data preprocessor has ``to_rgb=False``. A file with another
    number of channels is a bad image, which is named and left out as any other.

    Args:
        channels: how many an image has.
        value_range: values that become 0 and 255.
        kwargs: as for ``TolerantLoadImageFromFile``.
    """

    def __init__(self, channels: int, value_range: tuple[float, float] | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.channels, self.value_range = channels, value_range

    def transform(self, results: dict) -> dict | None:
        """Load."""
        path = results['img_path']
        try:
            image = self.read(path)
        except BadImageError as error:
            return self.bad_image(path, str(error))
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}

    def read(self, path: str) -> np.ndarray:
        """The image of a file."""
        stored = stored_channels(read_image_bytes(path, self.backend_args), self.rules.max_pixels)
        if stored.shape[2] != self.channels:
            raise BadImageError(f'it has {stored.shape[2]} channels instead of {self.channels}')
        if self.value_range is None and (dark := darkness(stored)):
            self.tell(path, 'depth', dark)
        return to_byte_range(stored, self.value_range)
