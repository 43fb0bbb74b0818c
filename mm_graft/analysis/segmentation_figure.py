"""Draw segmentations: image, truth and what models predict, one column each, in the data set's own colors."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

SIDE = 2.4  # inches of a panel
VOID = (255, 255, 255)


def color(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class indices (H, W) as colors (H, W, 3), uint8; what has no color of its own is white."""
    table = np.full((max(int(labels.max()) + 1, len(palette)), 3), VOID, dtype=np.uint8)
    table[:len(palette)] = palette
    return table[labels]


@torch.no_grad()
def predict(model: nn.Module, sample: dict) -> np.ndarray:
    """Class indices (H, W) that a segmentor gives one sample of a data set, at the size of its annotation."""
    result = model.test_step({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})[0]
    return result.pred_sem_seg.data[0].cpu().numpy()


def draw(images: Sequence[np.ndarray], columns: Mapping[str, Sequence[np.ndarray]], classes: Sequence[str],
         palette: Sequence[Sequence[int]]) -> Figure:
    """A row for each image (H, W, 3), uint8, RGB: the image, and the classes (H, W) of each column, with a legend."""
    def show(axis: Axes, image: np.ndarray, labels: np.ndarray | None) -> None:
        axis.imshow(image if labels is None else color(labels, palette), interpolation='nearest')

    return draw_columns(images, columns, show, classes, palette)


def draw_columns(images: Sequence[np.ndarray], columns: Mapping[str, Sequence], show: Callable, classes: Sequence[str],
                 palette: Sequence[Sequence[int]]) -> Figure:
    """A row for each image: ``show(axis, image, None)``, and with what each column has of it; and a legend."""
    for title, found in columns.items():
        if len(found) != len(images):
            raise ValueError(f'column {title!r} has {len(found)} entries for {len(images)} images; give one each')
    height, width = images[0].shape[:2]
    rows, panels = len(images), 1 + len(columns)
    figure = Figure(figsize=(SIDE * panels, SIDE * height / width * rows + 0.9), layout='constrained')
    axes = figure.subplots(rows, panels, squeeze=False)
    for row, image in enumerate(images):
        panel = {'image': None, **{title: found[row] for title, found in columns.items()}}
        for axis, (title, content) in zip(axes[row], panel.items()):
            show(axis, image, content)
            axis.axis('off')
            if row == 0:
                axis.set_title(title, fontsize=10)
    handles = [Patch(color=np.asarray(shade[:3]) / 255, label=name) for name, shade in zip(classes, palette)]
    figure.legend(handles=handles, loc='outside lower center', ncols=6, fontsize=8, frameon=False)
    return figure
