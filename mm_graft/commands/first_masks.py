"""The first masks of a segmentation data set, checked against its classes and the model's heads."""

from collections.abc import Iterator

import numpy as np
from PIL import ExifTags
from torch import nn
from torch.utils.data import Dataset

from mm_graft.commands.messages import INPUT_ERRORS, one_line
from mm_graft.evaluation.datasets import class_names
from mm_graft.image_files import BadImageError, read_header, read_image_bytes
from mm_graft.spelling import some_of

LOOKED_AT = 64  # masks


def check_masks(key: str, model: nn.Module, dataset: Dataset) -> None:
    """Check that masks are two-dimensional with values that the heads know, and that no class is ignored."""
    classes = class_names(dataset)
    heads = heads_of(model)
    for part, head in heads.items():
        if classes and head.num_classes != len(classes):
            raise ValueError(f'{key} has {len(classes)} classes ({some_of(classes, 5)}), but '
                             f'model.{part}.num_classes={head.num_classes}; '
                             f'--cfg-options model.{part}.num_classes={len(classes)}')
        if head.ignore_index not in (None, getattr(dataset, 'ignore_index', head.ignore_index)):
            raise ValueError(f'{key}.ignore_index={dataset.ignore_index}, but model.{part}.ignore_index='
                             f'{head.ignore_index}: what is to be ignored would be learned; give both the same')
    known = min((head.num_classes for head in heads.values()), default=None)
    if known is None:
        return
    ignored, seen = {getattr(dataset, 'ignore_index', 255)}, set()
    for path, mask in first_masks(key, dataset):
        if mask.ndim != 2:
            raise ValueError(f'{key}: mask {path} has {mask.shape[-1]} channels, not one with the numbers of '
                             'classes; convert it (a palette image keeps its colors beside them)')
        values = {int(value) for value in np.unique(mask)}
        wrong = sorted(value for value in values - ignored if not 0 <= value < known)
        if wrong:
            shifted = wrong == [known] and 0 in values and not getattr(dataset, 'reduce_zero_label', False)
            remedy = (f'if 0 is no class, set {key}.reduce_zero_label=True' if shifted else
                      'correct num_classes of data set and heads, or the masks')
            raise ValueError(f'{key}: mask {path} has the values {wrong[:5]}, but model.decode_head.num_classes='
                             f'{known} knows 0 to {known - 1} and {max(ignored)} for nothing; {remedy}')
        seen |= values
    check_zero_label(key, dataset, seen, ignored, known)
    check_foreground(key, dataset, seen, ignored, known)


def check_foreground(key: str, dataset: Dataset, seen: set[int], ignored: set[int], classes: int) -> None:
    """Check that of two classes the second is not drawn with the value of what is ignored, as in a black-white picture.

    If such masks are right, set the data set's ``metainfo.zero_label_checked``.
    """
    metainfo = getattr(dataset, 'metainfo', None) or {}
    if classes == 2 and seen == {0} | ignored and not metainfo.get('zero_label_checked'):
        raise ValueError(f'{key}: the first masks have nothing but 0 and {max(ignored)}, which is ignored, so that the '
                         f'second class is never learned; write 1 instead of {max(ignored)}, or, if they are right, '
                         f'set {key}.metainfo.zero_label_checked=True')


def check_zero_label(key: str, dataset: Dataset, seen: set[int], ignored: set[int], classes: int) -> None:
    """Check that ``reduce_zero_label`` (0 is nothing, 1 the first class) is not set where 0 is a class.

    A sign of it is that only the last class never occurs. If such masks are right, set the data set's
    ``metainfo.zero_label_checked``.
    """
    metainfo = getattr(dataset, 'metainfo', None) or {}
    if not getattr(dataset, 'reduce_zero_label', False) or classes < 2 or metainfo.get('zero_label_checked'):
        return
    if seen - ignored == set(range(classes - 1)) and seen & ignored:
        names = metainfo.get('classes') or range(classes)
        raise ValueError(f'{key}.reduce_zero_label=True takes the value 0 for nothing and {classes} for the '
                         f'last of {classes} classes ({names[-1]}), but the first masks have 0 to {classes - 1}: 0 is '
                         f'a class ({names[0]}); --cfg-options {key}.reduce_zero_label=False, or, if they '
                         f'are right and have no {names[-1]}, {key}.metainfo.zero_label_checked=True')


def heads_of(model: nn.Module) -> dict[str, nn.Module]:
    """The heads that learn from masks, by their key in the model."""
    auxiliary = getattr(model, 'auxiliary_head', None)
    several = isinstance(auxiliary, nn.ModuleList)
    parts = {'decode_head': model.decode_head} | (
        {f'auxiliary_head.{index}': head for index, head in enumerate(auxiliary)} if several else
        {'auxiliary_head': auxiliary})
    return {key: head for key, head in parts.items() if isinstance(getattr(head, 'num_classes', None), int)}


def first_masks(key: str, dataset: Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Paths and values of masks as the pipeline loads them, before it crops."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    load = next((step for step in steps if type(step).__name__ == 'LoadAnnotations'), None)
    if load is None or not hasattr(dataset, 'get_data_info'):
        return
    for index in range(min(LOOKED_AT, len(dataset))):
        results = dataset.get_data_info(index)
        path = results.get('seg_map_path')
        try:
            mask = load(results)['gt_seg_map']
        except INPUT_ERRORS as error:
            raise ValueError(f'{key}: mask {path} of image {results.get("img_path")} cannot be read: '
                             f'{one_line(error)}') from error
        check_stored(key, path, results.get('img_path'), mask.shape[:2], getattr(load, 'backend_args', None))
        yield path, mask


def check_stored(key: str, path: str, image_path: str, size: tuple[int, int], backend_args: dict | None) -> None:
    """Check that a mask was read whole (mmseg keeps eight bits of each value) and has the shape of its image."""
    try:
        mask = read_header(read_image_bytes(path, backend_args)).picture
        image = read_header(read_image_bytes(image_path, backend_args)).picture
    except BadImageError:
        return  # of a format that only the loader of this data set knows
    if mask is not None and mask.mode[0] == 'I' and (high := int(np.asarray(mask).max())) > 255:
        raise ValueError(f'{key}: mask {path} has values up to {high}, of which mmseg keeps the lower eight bits; give '
                         'classes the numbers from 0 to 254')
    if image is None:
        return
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4  # width and height are exchanged
    width, height = image.size[::-1] if turned else image.size
    if width * size[0] != height * size[1]:
        raise ValueError(f'{key}: mask {path} has {size[0]}×{size[1]} pixels, its image {image_path} {height}×{width}, '
                         'as it is shown, so that they do not cover each other; turn or crop the mask like the image')
