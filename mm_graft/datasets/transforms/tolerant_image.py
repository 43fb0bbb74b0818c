"""Images that cannot be read are named, counted and replaced."""

import io
import logging

import mmcv
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from mmengine.logging import print_log
from PIL import Image

from mm_graft.registry import TRANSFORMS

ENDS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND'}  # how a file begins → what stands near its end
WORKERS = 256


def image_damage(content: bytes, max_pixels: int) -> str | None:
    """What is wrong with an image file, or None, without decoding it where its end is there.

    OpenCV turns the first half of a JPEG file into an image with a grey rest and no error; and it decodes what a few
    bytes promise up to 2³⁰ pixels.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except Exception as error:  # of any decoder
        return f'{type(error).__name__}: no known image format' if content else 'the file is empty'
    if image.width * image.height > max_pixels:
        return f'{image.width} x {image.height} pixels are more than max_pixels={max_pixels}'
    end = next((end for start, end in ENDS.items() if content.startswith(start)), None)
    if end is not None and end not in content[-64:]:
        try:
            image.load()
        except Exception as error:  # as above
            return f'{type(error).__name__}: {error}'
    return None


@TRANSFORMS.register_module()
class TolerantLoadImageFromFile(LoadImageFromFile):
    """The host's ``LoadImageFromFile``, which does not end a run for one bad image, up to a limit.

    A missing, empty, cut or unreadable image, and one of absurd size, is named in the log and left out; the host's
    ``BaseDataset`` then takes another one at random (with `RNGStateHook` the same in a resumed run). Bits flipped in
    a JPEG's data decode to wrong colours and are not noticed.

    Args:
        max_bad: how many times a bad image may be met in a run, over all processes of one loader; one more is an error.
        max_pixels: larger images are bad.
        kwargs: as for the host's.

    Raises:
        ValueError: a negative limit.
        RuntimeError: more bad images than ``max_bad``.
    """

    def __init__(self, *args, max_bad: int = 100, max_pixels: int = 2**26, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if max_bad < 0 or max_pixels < 1:
            raise ValueError(f'max_bad={max_bad} and max_pixels={max_pixels} are limits; choose ≥ 0 and ≥ 1')
        self.max_bad = max_bad
        self.max_pixels = max_pixels
        self.counts = torch.zeros(WORKERS, dtype=torch.int64).share_memory_()  # one per process: nothing is locked

    def transform(self, results: dict) -> dict | None:
        """Load, or return None after having said why."""
        path = results['img_path']
        try:
            content = get(path, backend_args=self.backend_args)
            reason = image_damage(content, self.max_pixels)
            image = None if reason else mmcv.imfrombytes(content, self.color_type, backend=self.imdecode_backend)
        except Exception as error:  # of any file system or decoder
            reason, image = f'{type(error).__name__}: {error}', None
        if image is None:
            self._count(path, reason or 'the decoder gives nothing')
            return None
        size = image.shape[:2]
        return {**results, 'img': image.astype('float32') if self.to_float32 else image, 'img_shape': size,
                'ori_shape': size}

    def _count(self, path: str, reason: str) -> None:
        worker = torch.utils.data.get_worker_info()
        self.counts[worker.id % WORKERS if worker else 0] += 1
        total = int(self.counts.sum())
        message = f'image {path} cannot be used ({reason}); bad image {total} of at most {self.max_bad}'
        if total > self.max_bad:
            raise RuntimeError(f'{message}; repair the data, or raise max_bad')
        print_log(f'{message}, another one takes its place', logger='current', level=logging.WARNING)
