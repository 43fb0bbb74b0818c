"""Random batches have the form of the real ones."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from benchmarks.batch import crop_size, image_channels, image_size, random_batch, view_sizes

CROP = dict(type='RandomResizedCrop', scale=48)
JITTER = [dict(type='ColorJitter')]


def config(pipeline, scope='mmpretrain', **backbone):
    return Config(dict(default_scope=scope, model=dict(backbone=dict(type='VisionTransformer', **backbone)),
                       train_dataloader=dict(dataset=dict(pipeline=pipeline))))


def two_views(*crops):
    return [dict(type='MultiView', num_views=[1] * len(crops), transforms=[[crop, *JITTER] for crop in crops])]


def test_the_size_is_the_crops_else_the_backbones_and_height_comes_first():
    assert image_size(config([CROP], img_size=32)) == (48, 48)
    assert image_size(config([dict(type='RandomCrop', crop_size=(64, 32))])) == (64, 32)
    assert image_size(config([], img_size=(32, 96))) == (32, 96)
    assert image_size(config([])) == (224, 224)
    assert crop_size(JITTER) is None


@pytest.mark.parametrize('backbone', [
    dict(type='VisionTransformer', arch='deit-tiny', img_size=32, in_channels=5),
    dict(type='MAEViT', arch='deit-tiny', img_size=32, patch_cfg=dict(in_channels=5)),
    dict(type='ResNet', depth=18, in_channels=5)])
def test_the_channels_are_those_of_the_model_however_its_config_calls_them(backbone):
    init_default_scope('mmpretrain')
    assert image_channels(MODELS.build(backbone)) == 5


def test_channels_are_those_of_the_first_convolution():
    assert image_channels(nn.Sequential(nn.Linear(7, 7), nn.Conv2d(4, 9, 1), nn.Conv2d(9, 2, 1))) == 4


def test_images_are_bytes_as_high_and_as_wide_as_asked():
    batch = random_batch(config([CROP]), 3, (48, 16), channels=1)
    assert batch['inputs'].shape == (3, 1, 48, 16)
    assert batch['inputs'].dtype == torch.uint8
    assert len(batch['data_samples']) == 3
    assert batch['inputs'].max() > 200
    assert [sample.sample_idx for sample in batch['data_samples']] == [0, 1, 2]


def test_two_views_are_two_and_differ():
    first, second = random_batch(config(two_views(CROP, CROP)), 2, (48, 48), 3)['inputs']
    assert first.shape == second.shape == (2, 3, 48, 48)
    assert not torch.equal(first, second)


def test_views_have_their_own_crops_and_the_large_ones_follow_another_size():
    small = dict(type='mm_graft.FastCrop', scale=(16, 24))
    cfg = config([dict(type='MultiView', num_views=[2, 3], transforms=[[CROP], [small]])], img_size=48)
    assert view_sizes(cfg, (48, 48)) == [(48, 48)] * 2 + [(16, 24)] * 3
    assert view_sizes(cfg, (96, 96)) == [(96, 96)] * 2 + [(16, 24)] * 3
    shared = config([CROP, dict(type='MultiView', num_views=2, transforms=[JITTER])])
    assert view_sizes(shared, (64, 64))[0] == (64, 64)
    two = config([dict(type='RandomResizedCropAndInterpolationWithTwoPic', size=48, second_size=24)], img_size=48)
    assert view_sizes(two, (48, 48)) == [(48, 48), (24, 24)]


def test_one_number_of_views_makes_that_many_of_the_same():
    cfg = config([CROP, dict(type='MultiView', num_views=2, transforms=[JITTER])])
    assert len(random_batch(cfg, 2, (48, 48), 3)['inputs']) == 2


def test_masks_are_the_configs_own_and_label_maps_come_along():
    init_default_scope('mmpretrain')
    mask = dict(type='SimMIMMaskGenerator', input_size=48, mask_patch_size=16, model_patch_size=4, mask_ratio=0.75)
    samples = random_batch(config([CROP, mask]), 2, (48, 48), 3)['data_samples']
    assert samples[0].mask.shape == (12, 12)
    assert samples[0].mask.sum() == 7 * 16  # of nine cells of four by four
    assert random_batch(config([CROP, mask]), 2, (96, 96), 3)['data_samples'][0].mask.shape == (24, 24)
    samples = random_batch(config([], scope='mmseg'), 2, (32, 16), 3)['data_samples']
    assert samples[1].gt_sem_seg.data.shape == (1, 32, 16)


@pytest.mark.parametrize('number', [1, 4])
def test_there_are_as_many_as_asked(number):
    assert len(random_batch(config([CROP]), number, (16, 16), 3)['inputs']) == number
