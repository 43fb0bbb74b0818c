"""Random batches have the form of the real ones."""

import pytest
import torch
from mmengine.config import Config

from benchmarks.random_batch import image_size, input_channels, random_batch, transform_types

CROP = dict(type='RandomResizedCrop', scale=48)


def config(pipeline, scope='mmpretrain', **backbone):
    return Config(dict(default_scope=scope, model=dict(backbone=dict(type='VisionTransformer', **backbone)),
                       train_dataloader=dict(dataset=dict(pipeline=pipeline))))


def test_the_size_is_the_crops_else_the_backbones():
    assert image_size(config([CROP], img_size=32)) == 48
    assert image_size(config([dict(type='RandomCrop', crop_size=(64, 64))])) == 64
    assert image_size(config([], img_size=32)) == 32
    assert image_size(config([])) == 224


def test_transforms_are_found_however_deep():
    pipeline = [dict(type='MultiView', num_views=[1, 1], transforms=[[CROP], [dict(
        type='RandomApply', transforms=[dict(type='ColorJitter')], prob=0.8)]])]
    assert transform_types(pipeline) == ['MultiView', 'RandomResizedCrop', 'RandomApply', 'ColorJitter']


def test_images_are_uint8_with_the_backbones_channels():
    batch = random_batch(config([CROP], in_channels=1), 3, 48)
    assert batch['inputs'].shape == (3, 1, 48, 48)
    assert batch['inputs'].dtype == torch.uint8
    assert len(batch['data_samples']) == 3
    assert input_channels(config([], patch_cfg=dict(in_channels=4))) == 4


def test_two_views_are_two_and_differ():
    first, second = random_batch(config([dict(type='MultiView', num_views=2, transforms=[[CROP]])]), 2, 32)['inputs']
    assert first.shape == second.shape == (2, 3, 32, 32)
    assert not torch.equal(first, second)


def test_local_views_keep_their_size_and_samples_have_ids():
    local = dict(type='mm_graft.FastCrop', scale=24)
    batch = random_batch(config([dict(type='MultiView', num_views=[1, 1, 3], transforms=[[CROP], [CROP], [local]])]),
                         2, 64)
    assert [view.shape[-1] for view in batch['inputs']] == [64, 64, 24, 24, 24]
    assert [sample.sample_idx for sample in batch['data_samples']] == [0, 1]


def test_masks_and_label_maps_come_along_where_the_config_has_them():
    samples = random_batch(config([dict(type='SimMIMMaskGenerator')]), 2, 32)['data_samples']
    assert samples[0].mask.shape == (8, 8)
    samples = random_batch(config([], scope='mmseg'), 2, 32)['data_samples']
    assert samples[1].gt_sem_seg.data.shape == (1, 32, 32)


@pytest.mark.parametrize('number', [1, 4])
def test_there_are_as_many_as_asked(number):
    assert len(random_batch(config([CROP]), number, 16)['inputs']) == number
