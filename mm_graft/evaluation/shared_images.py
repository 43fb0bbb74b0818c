"""Test images that are training images too, of which scores say more than of others."""

import hashlib
import logging
import os
from collections.abc import Hashable, Iterator

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mm_graft.evaluation.datasets import image_names
from mm_graft.files import sha256_of_file
from mm_graft.spelling import some_of

LIMIT = 10_000  # images of both sets, up to which files are asked for what they are, and read where sizes agree


def shared_images(train: Dataset, test: Dataset) -> list[str]:
    """Names of the test images that are training images too.

    Files of small sets by what they are, so that links count, and by their content; those of large ones by their paths
    alone, since a cluster's storage takes milliseconds a question. Images in memory by their content.
    """
    small = len(train) + len(test) <= LIMIT
    ours, theirs = list(_images(train, small)), list(_images(test, small))
    files, sizes = ({image[place] for image in ours} for place in (0, 1))
    same = {index for index, (file, _, _) in enumerate(theirs) if file in files}
    rest = [(index, size, path) for index, (_, size, path) in enumerate(theirs)
            if index not in same and size and size in sizes]
    wanted = {size for _, size, _ in rest}
    contents = {sha256_of_file(path) for _, size, path in ours if size in wanted}
    same |= {index for index, _, path in rest if sha256_of_file(path) in contents}
    if not same:  # the usual case, which need not name every test image
        return []
    names = image_names(test)
    return [names[index] for index in sorted(same)]


def warn_of_shared(train: Dataset, test: Dataset) -> None:
    """Say in the log which test images are training images."""
    if shared := shared_images(train, test):
        which = (f'{len(shared)} of {len(test)} test images are training images too ({some_of(shared, 3)})'
                 if len(shared) < len(test) else 'the test images are the training images')
        print_log(f'{which}, so that scores say nothing about other images; take them out of one of the sets',
                  logger='current', level=logging.WARNING)


def _images(dataset: Dataset, ask: bool) -> Iterator[tuple[Hashable, int | None, str | None]]:
    """Of every image what it is, and of a file that may be asked its size and path."""
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        path, image = info.get('img_path'), info.get('img')
        if path is not None and not ask:
            yield os.path.abspath(path), None, None
        elif path is not None and os.path.isfile(path):
            status = os.stat(path)
            yield (status.st_dev, status.st_ino), status.st_size, path
        elif image is not None:
            yield hashlib.sha256(np.ascontiguousarray(np.asarray(image)).tobytes()).digest(), None, None
        else:
            yield object(), None, None
