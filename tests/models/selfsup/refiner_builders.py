"""Tiny refiners and their data."""

import copy

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mm_graft.registry import DATASETS
from tests.tiny import PREPROCESSOR, VIT

HEAD = dict(type='mm_graft.NNAHead', hid_channels=12, out_channels=8, predictor_channels=12,
            norm_cfg=dict(type='BN1d'), queue=dict(type='mm_graft.SupportQueue', length=16, num_neighbors=3),
            loss=dict(type='mm_graft.NNALoss', pairs='described'))


def refiner(head=None, backbone=None, **kwargs):
    """Config of a refiner with heads on blocks 1, 2 and 3 of 4."""
    tapped = dict(type='mm_graft.GraftViT', **VIT, out_indices=[1, 2, 3], out_type='cls_token', stop_grad_conv1=False)
    return dict(type='mm_graft.MIMRefiner', data_preprocessor=PREPROCESSOR, backbone={**tapped, **(backbone or {})},
                head={**HEAD, **(head or {})}, **{'momentum': 0.9, **kwargs})


def build(*args, **kwargs):
    model = MODELS.build(copy.deepcopy(refiner(*args, **kwargs)))
    model.init_weights()
    if model.momentum_encoder is not None:
        model.momentum_encoder.max_iters = 10
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
