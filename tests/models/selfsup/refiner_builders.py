"""Tiny refiners and their data."""

import copy

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mm_graft.registry import DATASETS
from tests.tiny import refiner


def build(*args, **kwargs):
    return started(refiner(*args, **kwargs))


def build_on(backbone):
    """A refiner around another backbone."""
    return started({**refiner(), 'backbone': backbone})


def started(config):
    model = MODELS.build(copy.deepcopy(config))
    model.init_weights()
    return model.train()


def samples(ids, label=None):
    return [DataSample(metainfo=dict(sample_idx=int(index))) if label is None else
            DataSample(metainfo=dict(sample_idx=int(index))).set_gt_label(label(index)) for index in ids]


def views_of(ids, sizes=(32, 32, 16, 16)):
    """Views that are functions of image, view and size."""
    return [torch.stack([torch.rand(3, size, size, generator=torch.Generator().manual_seed(100 * int(index) + view))
                         for index in ids]) for view, size in enumerate(sizes)]


@DATASETS.register_module(force=True)
class CroppedNoise(Dataset):
    """Images of which two global and two local views are functions of the index."""

    def __init__(self, length=16):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {'inputs': [view[0] for view in views_of([index])], 'data_samples': samples([index], lambda i: i % 2)[0]}
