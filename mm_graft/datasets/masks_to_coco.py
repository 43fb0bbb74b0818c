"""Instances for detection out of label maps: each connected region of a class is one object, in COCO's format."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

EIGHT = np.ones((3, 3), int)  # pixels that touch at a corner belong together


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of a boolean mask (H, W): column by column, zeros first."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {'size': list(mask.shape), 'counts': [0, *counts] if flat[0] else counts}


def regions(labels: np.ndarray, value: int, min_area: int) -> Iterator[np.ndarray]:
    """Boolean masks (H, W) of the connected regions of a label map that have at least ``min_area`` pixels."""
    from scipy import ndimage  # trainings import this module and have no use for it
    numbered, count = ndimage.label(labels == value, EIGHT)
    for number in range(1, count + 1):
        region = numbered == number
        if region.sum() >= min_area:
            yield region


def annotation(region: np.ndarray, image_id: int, category_id: int, number: int) -> dict:
    """COCO's entry of one object; its box is left, top, width and height in pixels, edges included."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    left, top = int(columns[0]), int(rows[0])
    return {'id': number, 'image_id': image_id, 'category_id': category_id, 'iscrowd': 0, 'area': int(region.sum()),
            'bbox': [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
            'segmentation': run_lengths(region)}


def masks_to_coco(pairs: Mapping[str, str | Path], classes: Mapping[str, int], min_area: int = 1) -> dict:
    """A COCO data set from label maps.

    Touching objects of one class become one, which is what a label map can say.

    Args:
        pairs: file name of each image → its label map, a single-channel picture.
        classes: name → value in the label maps; categories are numbered from 1 in this order.
        min_area: pixels that a region must have.
    """
    if not classes or not pairs:
        raise ValueError(f'{len(pairs)} images and {len(classes)} classes make no data set; give at least one of each')
    images, annotations = [], []
    for image_id, (name, path) in enumerate(pairs.items(), 1):
        labels = np.asarray(Image.open(path))
        if labels.ndim != 2:
            raise ValueError(f'{path} has shape {labels.shape}; a label map has one channel, the value of a class')
        images.append({'id': image_id, 'file_name': name, 'height': labels.shape[0], 'width': labels.shape[1]})
        for category_id, value in enumerate(classes.values(), 1):
            for region in regions(labels, value, min_area):
                annotations.append(annotation(region, image_id, category_id, len(annotations) + 1))
    categories = [{'id': index, 'name': name} for index, name in enumerate(classes, 1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}
