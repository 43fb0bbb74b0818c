"""Loading images: every kind of file by one rule, and bad ones named, counted and replaced."""

import logging
from collections.abc import Iterable
from hashlib import blake2b

import torch
from mmcv.transforms import LoadImageFromFile as HostLoader
from mmengine.logging import print_log

from mm_graft.image_files import MAX_PIXELS, BadImageError, Rules, decode_image, read_image_bytes
from mm_graft.registry import TRANSFORMS

LOSSES = ('depth', 'transparency', 'frames', 'channels')


class SharedSet:
    """A set of texts that forked or spawned processes fill together, as 64-bit hashes in a table of shared memory.

    Without a lock: of two processes that write into one slot at the same moment one loses, and its text counts as new
    the next time.

    Args:
        capacity: how many texts there may be.
    """

    def __init__(self, capacity: int) -> None:
        self.table = torch.zeros(2 ** (2 * capacity + 1).bit_length(), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return int(self.table.count_nonzero())

    def add(self, text: str) -> bool:
        """Add a text; whether it is new. A full table takes no more."""
        return self.add_hash(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True) or 1)

    def add_hash(self, value: int) -> bool:
        """Add a text by its hash, one of :meth:`hashes`."""
        for step in range(len(self.table)):
            slot = (value + step) % len(self.table)
            found = int(self.table[slot])
            if found in (0, value):
                self.table[slot] = value
                return found == 0
        return False

    def hashes(self) -> list[int]:
        """The hashes, sorted."""
        return sorted(self.table[self.table != 0].tolist())


@TRANSFORMS.register_module()
class LoadImageFromFile(HostLoader):
    """The host's ``LoadImageFromFile`` by the rules of :mod:`mm_graft.image_files` on size, depth and transparency.

    Standard images (eight bits, opaque) have the host's pixels. The first image of which something is lost on the way
    to eight bits is named in the log, with what there was.

    Args:
        max_pixels: larger images are bad.
        value_range: for images of more than eight bits, the values that become 0 and 255, such as ``(0, 4095)``; or
            ``'image'`` to spread the values of each.
        background: gray level behind transparent pixels.
    """

    def __init__(self, *args, max_pixels: int = MAX_PIXELS, value_range: tuple[float, float] | str | None = None,
                 background: int = 255, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.rules = Rules(max_pixels, value_range, background)
        self.told = torch.zeros(len(LOSSES), dtype=torch.uint8).share_memory_()  # by any process

    def transform(self, results: dict) -> dict | None:
        """Load."""
        path = results['img_path']
        try:
            decoded = decode_image(read_image_bytes(path, self.backend_args), self.rules, self.color_type,
                                   self.imdecode_backend)
        except BadImageError as error:
            return self.bad_image(path, str(error))
        for loss, found in decoded.losses.items():
            self.tell(path, loss, found)
        image, size = decoded.image, decoded.image.shape[:2]
        return {**results, 'img': image.astype('float32') if self.to_float32 else image, 'img_shape': size,
                'ori_shape': size}

    def bad_image(self, path: str, reason: str) -> None:
        """Handle an unusable image; None makes the data set choose another."""
        if not self.ignore_empty:
            raise BadImageError(f'image {path} cannot be used: {reason}')

    def tell(self, path: str, loss: str, found: str) -> None:
        """Say what is lost of an image, once for each kind of loss."""
        if not self.told[LOSSES.index(loss)]:
            self.told[LOSSES.index(loss)] = 1
            print_log(f'image {path} has {found} (said of the first such image only)', logger='current',
                      level=logging.WARNING)


@TRANSFORMS.register_module()
class TolerantLoadImageFromFile(LoadImageFromFile):
    """The same, which does not end a run for one bad image, up to a limit.

    A missing, empty, cut or unreadable image, and one of absurd size, is named in the log and left out; the host's
    ``BaseDataset`` then takes another one at random (with `RNGStateHook` the same in a resumed run). Bits flipped in
    a JPEG's data decode to wrong colors and are not noticed.

    Args:
        max_bad: how many files may be bad, however often they are met, over all processes of a loader and, with
            `BadImagesHook`, over all processes of a run and over resumed ones; one more is an error.
    """

    def __init__(self, *args, max_bad: int = 100, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if max_bad < 0:
            raise ValueError(f'max_bad={max_bad} is a number of files; choose at least 0')
        self.max_bad = max_bad
        self.bad_files = SharedSet(max_bad + 1)

    def bad_image(self, path: str, reason: str) -> None:
        """Name the file when it is met for the first time."""
        if not self.bad_files.add(path):
            return
        total = len(self.bad_files)
        message = f'image {path} cannot be used ({reason}); bad image {total} of at most {self.max_bad}'
        if total > self.max_bad:
            raise RuntimeError(f'{message}; repair the data, or raise max_bad')
        print_log(f'{message}, another one takes its place', logger='current', level=logging.WARNING)

    def count_more(self, hashes: Iterable[int]) -> None:
        """Count files that were met elsewhere: by other processes, or before the run was resumed."""
        for value in hashes:
            self.bad_files.add_hash(value)
        if len(self.bad_files) > self.max_bad:
            raise RuntimeError(f'{len(self.bad_files)} images cannot be used, over all processes and resumed runs, of '
                               f'at most {self.max_bad}; repair the data, or raise max_bad')
