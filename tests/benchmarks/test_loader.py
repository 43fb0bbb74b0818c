"""The pipeline's measurement: what is timed, on which images."""

import cv2
import pytest
from mmengine.config import Config

from benchmarks.loader import make_photos, measure_loader

VIEW = [dict(type='RandomResizedCrop', scale=16),
        dict(type='RandomApply', transforms=[dict(type='ColorJitter', brightness=0.4)], prob=1.0)]
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=[1, 2], transforms=[VIEW, VIEW]),
            dict(type='PackInputs')]


def config(pipeline=PIPELINE):
    return Config(dict(default_scope='mmpretrain', train_dataloader=dict(
        batch_size=2, dataset=dict(type='ImageNet', pipeline=pipeline))))


def test_every_transform_is_timed_the_nested_ones_too():
    result = measure_loader(config(), 3, synthetic=True)
    assert set(result['transforms_ms']) >= {
        'LoadImageFromFile', 'MultiView', 'RandomResizedCrop', 'RandomApply', 'ColorJitter', 'PackInputs'}
    assert result['images'] == 3
    assert result['images_per_s_per_core'] > 0
    assert sum(result['transforms_ms'].values()) <= 1000 / result['images_per_s_per_core']


def test_a_folder_of_images_stands_in_for_the_data_set(tmp_path):
    (tmp_path / 'class').mkdir()
    make_photos(tmp_path / 'class', 3)
    assert measure_loader(config(), 2, folder=tmp_path)['images'] == 2


def test_a_loader_with_processes_is_measured_as_well(tmp_path):
    make_photos(tmp_path, 2)
    assert measure_loader(config(), 2, folder=tmp_path, workers=1)['workers'] == 1


def test_photos_have_the_size_of_photos_and_differ(tmp_path):
    first, second = (cv2.imread(str(path)) for path in make_photos(tmp_path, 2))
    assert first.shape == (375, 500, 3)
    assert (first != second).mean() > 0.5


def test_an_empty_folder_or_pipeline_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no images'):
        measure_loader(config(), 2, folder=tmp_path)
    with pytest.raises(ValueError, match='no train_dataloader'):
        measure_loader(config([]), 2)
