"""Draw detections: image, truth and what detectors find, one column each, in a color for each class."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.registry import TRANSFORMS
from torch import nn
from torch.utils.data import Dataset

from mm_graft.analysis.segmentation_figure import draw_columns

MOST = 24  # classes in the legend
VEIL = 0.45  # opacity of a mask


class Objects(NamedTuple):
    """The objects of one image, in pixels of its file."""

    boxes: np.ndarray  #: left, top, right, bottom, (N, 4)
    labels: np.ndarray  #: class indices, (N, )
    masks: np.ndarray | None = None  #: booleans, (N, H, W); None for a detector without masks
    scores: np.ndarray | None = None  #: in [0, 1], (N, ); None for the truth


def truth(dataset: Dataset, index: int) -> Objects:
    """The annotated objects of an image of a detection data set, whatever its pipeline does to them."""
    load = TRANSFORMS.build(dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True))
    info = dataset.get_data_info(index)
    found = load({**info, 'ori_shape': (info['height'], info['width'])})
    return Objects(found['gt_bboxes'].tensor.numpy(), np.asarray(found['gt_bboxes_labels'], int),
                   np.asarray(found['gt_masks'].masks, bool))


@torch.no_grad()
def predict(model: nn.Module, sample: dict, threshold: float) -> Objects:
    """Detections in one sample with scores of at least ``threshold``, best first."""
    result = model.test_step({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})[0]
    found = result.pred_instances
    order = found.scores.argsort(descending=True, stable=True)
    order = order[found.scores[order] >= threshold]
    masks = found.masks[order].bool().cpu().numpy() if 'masks' in found else None
    return Objects(found.bboxes[order].cpu().numpy(), found.labels[order].cpu().numpy(), masks,
                   found.scores[order].cpu().numpy())


def colors(count: int) -> list[tuple[int, ...]]:
    """``count`` colors in 0…255, for data sets without a palette."""
    shades = colormaps['gist_rainbow'](np.linspace(0, 1, count, endpoint=False))
    return [tuple(shade[:3]) for shade in (255 * shades).astype(int).tolist()]


def veil(objects: Objects, shape: tuple[int, int], palette: Sequence[Sequence[int]]) -> np.ndarray:
    """The masks as a layer over an image of ``shape``, (H, W, 4) in [0, 1]; the first object is on top."""
    layer = np.zeros((*shape, 4), np.float32)
    for mask, label in reversed(list(zip(() if objects.masks is None else objects.masks, objects.labels))):
        layer[mask] = [*(np.asarray(palette[label][:3]) / 255), VEIL]
    return layer


def draw_objects(axis: Axes, image: np.ndarray, objects: Objects | None, palette: Sequence[Sequence[int]]) -> None:
    """One panel: the image (H, W, 3), and masks over it, boxes around them, scores above, unless None."""
    axis.imshow(image, interpolation='nearest')
    if objects is None:
        return
    axis.imshow(veil(objects, image.shape[:2], palette), interpolation='nearest')
    for place, (box, label) in enumerate(zip(objects.boxes, objects.labels)):
        left, top, right, bottom = box - 0.5  # pixel centers of a picture stand at whole numbers
        shade = np.asarray(palette[label][:3]) / 255
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=shade, linewidth=1))
        if objects.scores is not None:
            axis.text(left, top, f'{objects.scores[place]:.2f}', color=shade, fontsize=5, va='bottom')


def draw(images: Sequence[np.ndarray], columns: Mapping[str, Sequence[Objects]], classes: Sequence[str],
         palette: Sequence[Sequence[int]]) -> Figure:
    """A row for each image (H, W, 3), uint8, RGB: the image, and its objects of each column, colored by class."""
    return draw_columns(images, columns, partial(draw_objects, palette=palette), classes[:MOST], palette)
