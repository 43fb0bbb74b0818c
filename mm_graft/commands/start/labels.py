"""What labels add to the page of `mm_graft start`: accuracies before and after, and a map of the classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mm_graft.analysis.gallery import nearest_images
from mm_graft.analysis.page import Section
from mm_graft.analysis.reconstruction import read_readable
from mm_graft.analysis.tsne import draw_points, project
from mm_graft.channel_files import CHANNEL_EXTENSIONS
from mm_graft.commands.labeled import labeled_folders
from mm_graft.encoders import Encoder
from mm_graft.evaluation.protocols import FROZEN_PROTOCOLS, FrozenData, ProtocolSettings
from mm_graft.evaluation.splits import at_most
from mm_graft.image_files import EXTENSIONS
from mm_graft.image_folders import ImageList, list_images

MOST = 5000  # labeled images of a set that are looked at
ON_MAP = 1000
BATCH = 50
ROWS = {'knn': 'nearest neighbors (k={k}), %', 'linear': 'linear classifier, %',
        'fewshot-1': 'logistic regression on {train_images} images (1 % of them, at least one a class), %'}


def labeled(encoders: dict[str, Encoder], labels: str, val: str | None, size: tuple[int, int],
            **channels: object) -> list[Section]:
    """A table of accuracies and a map of the classes.

    With images to score on: kNN, a linear classifier and logistic regression on 1 % of the labels. Without: nearest
    neighbors, each image left out in turn.
    """
    folder, test_folder = labeled_folders(labels, val)
    extensions = CHANNEL_EXTENSIONS if channels else EXTENSIONS
    images = list_images(folder, labeled=True, extensions=extensions)
    pixels, known = read_labeled(images, size, **channels)
    features = {name: class_features(encoder, pixels) for name, encoder in encoders.items()}
    if test_folder is None:
        k = min(5, len(known) - 1)
        rows = [[f'{k} nearest neighbors, each image left out in turn, %',
                 *(100 * leave_one_out(part, known, k) for part in features.values())]]
        text = str(images)
    else:
        test_images = list_images(test_folder, labeled=True, classes=images.classes, extensions=extensions)
        test_pixels, test_known = read_labeled(test_images, size, **channels)
        test = {name: class_features(encoder, test_pixels) for name, encoder in encoders.items()}
        rows = accuracies(features, known, test, test_known, images.classes)
        text = f'Learned from {images}; scored on {test_images}'
    chosen = at_most(known, ON_MAP)
    method, points = zip(*(project(part[chosen]) for part in features.values()))
    return [Section('With labels', text, [['protocol', *encoders], *rows]),
            Section('Classes', f'{method[0]} of the same features: a color is a class.',
                    figure=draw_points(dict(zip(features, points)), known[chosen], list(images.classes)),
                    alternative=f'{method[0]} of the features')]


def accuracies(train: dict[str, np.ndarray], train_labels: np.ndarray, test: dict[str, np.ndarray],
               test_labels: np.ndarray, classes: Sequence[str]) -> list[list]:
    """A row for each protocol, a column for each encoder, in percent."""
    rows = []
    for protocol, title in ROWS.items():
        found = [FROZEN_PROTOCOLS[protocol](FrozenData(*(torch.from_numpy(part) for part in (
            train[name], train_labels, test[name], test_labels)), len(classes), classes=classes), ProtocolSettings())
                 for name in train]
        rows.append([title.format(**found[0]), *(float(result['top1']) for result in found)])
    return rows


def read_labeled(images: ImageList, size: tuple[int, int], **channels: object) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, H, W, C) and classes (N, ) of at most ``MOST`` images; unreadable ones are left out."""
    rows = at_most(np.array(images.labels), MOST)
    pixels, kept, _ = read_readable([Path(images.root) / images.names[row] for row in rows], size, **channels)
    return pixels, np.array(images.labels)[rows][kept]


def leave_one_out(features: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose k nearest others (by angle) mostly have their class; the nearest decides a draw."""
    neighbors = labels[nearest_images(features, range(len(features)), k)]  # (N, k)
    votes = (neighbors[:, :, None] == neighbors[:, None, :]).sum(2)
    return float((neighbors[np.arange(len(labels)), votes.argmax(1)] == labels).mean())


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pictures (N, H, W, 3) → (N, 3, H, W), float, in 0…255."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()


@torch.no_grad()
def class_features(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    """What the encoder gives for each picture, (N, D)."""
    return torch.cat([encoder.encode_pixels(part).float() for part in to_tensor(pixels).split(BATCH)]).numpy()
