import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mm_graft.commands.labeled import labeled_folders, use_labeled
from mm_graft.evaluation.datasets import build_datasets, image_labels


def pictures(folder, count):
    for name in ('a', 'b'):
        for index in range(count):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 50, 3), 60 * index, np.uint8)).save(folder / name / f'{index}.png')
    return str(folder)


def test_folders_are_those_given_or_lie_in_or_beside_the_first(tmp_path):
    whole = tmp_path / 'labeled'
    train, val = pictures(whole / 'train', 1), pictures(whole / 'val', 1)
    assert tuple(map(str, labeled_folders(str(whole)))) == (train, val)
    assert tuple(map(str, labeled_folders(train))) == (train, val)
    other = pictures(tmp_path / 'other', 1)
    assert tuple(map(str, labeled_folders(train, other))) == (train, other)
    assert labeled_folders(other)[1] is None
    with pytest.raises(FileNotFoundError, match='nowhere'):
        labeled_folders(other, 'nowhere')


def test_they_take_the_place_of_the_configs_data_at_the_size_of_the_encoder(tmp_path):
    cfg = Config(dict(model=dict(backbone=dict(img_size=32)), val_dataloader=dict(dataset=dict(type='Other'))))
    train, test = build_datasets(use_labeled(cfg, pictures(tmp_path / 't', 3), pictures(tmp_path / 'v', 2)))
    assert image_labels(train).tolist() == [0, 0, 0, 1, 1, 1]
    assert image_labels(test).tolist() == [0, 0, 1, 1]
    assert train[1]['inputs'].shape == test[1]['inputs'].shape == (3, 32, 32)
    assert test[1]['inputs'].unique().tolist() == [60]


def test_nothing_of_the_data_set_that_they_replace_stays(tmp_path):
    """A run on the first images of a set would be evaluated on the first images of another."""
    before = dict(type='CustomDataset', data_root='gone', ann_file='list.txt', indices=1, test_mode=True)
    cfg = Config(dict(model=dict(backbone=dict(img_size=32)), **{
        f'{name}_dataloader': dict(batch_size=7, dataset=dict(before)) for name in ('train', 'test')}))
    train, test = build_datasets(use_labeled(cfg, pictures(tmp_path / 't', 3), pictures(tmp_path / 'v', 2)))
    assert image_labels(train).tolist() == [0, 0, 0, 1, 1, 1]
    assert image_labels(test).tolist() == [0, 0, 1, 1]
    assert not {'ann_file', 'indices'} & {*cfg.train_dataloader.dataset, *cfg.test_dataloader.dataset}
    assert cfg.train_dataloader.batch_size == 7


def test_without_labels_the_config_stays_and_half_of_them_is_refused(tmp_path):
    cfg = Config(dict(a=1))
    assert use_labeled(cfg, None, None) is cfg
    with pytest.raises(ValueError, match='give --labels'):
        use_labeled(cfg, None, 'val')
    with pytest.raises(ValueError, match='no images to score on'):
        use_labeled(cfg, pictures(tmp_path / 'a', 1), None)
