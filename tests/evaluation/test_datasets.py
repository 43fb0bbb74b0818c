import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mm_graft.evaluation.datasets import (
    build_dataset,
    build_datasets,
    class_names,
    dataset_configs,
    image_labels,
    image_names,
)


@pytest.fixture
def folder(tmp_path):
    for split in ('train', 'test'):
        for name in ('bird', 'cat'):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(3):
                cv2.imwrite(str(tmp_path / split / name / f'{index}.png'), np.full((20, 24, 3), index, np.uint8))
    return tmp_path


def config(folder, **changes) -> Config:
    views = [dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=2, transforms=[[]]),
             dict(type='PackInputs')]
    train = dict(type='CustomDataset', data_root=str(folder), data_prefix='train', pipeline=views)
    return Config({'model': {'backbone': {'img_size': 16}}, 'train_dataloader': {'dataset': train}, **changes})


def test_pretraining_config_finds_its_test_folder_and_one_view_of_the_images(folder):
    train, test = build_datasets(config(folder))
    assert len(train) == len(test) == 6
    assert class_names(train) == class_names(test) == ('bird', 'cat')
    assert train[0]['inputs'].shape == test[5]['inputs'].shape == (3, 16, 16)


def test_the_test_folder_is_also_found_where_the_root_itself_ends_in_train(folder):
    cfg = config(folder / 'train')
    cfg.train_dataloader.dataset.data_prefix = ''
    train, test = dataset_configs(cfg)
    assert (train['data_root'], test['data_root']) == (str(folder / 'train'), str(folder / 'test'))


def test_a_loader_that_replaces_bad_images_gives_way_to_the_hosts(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.pipeline[0] = dict(
        type='mm_graft.TolerantLoadImageFromFile', max_bad=3, color_type='grayscale')
    train, _ = build_datasets(cfg)
    assert train.pipeline.transforms[0].__class__.__name__ == 'LoadImageFromFile'
    assert train[0]['inputs'].shape == (1, 16, 16)


def test_both_sets_get_the_configured_test_pipeline_and_wrappers_come_off(folder):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    plain = config(folder).train_dataloader.dataset.to_dict()
    test = {**plain, 'data_prefix': 'test', 'pipeline': pipeline}
    wrapped = config(folder, train_dataloader={'dataset': {'type': 'RepeatDataset', 'times': 3, 'dataset': plain}},
                     test_dataloader={'dataset': test})
    train_cfg, test_cfg = dataset_configs(wrapped)
    assert train_cfg['type'] == 'CustomDataset'
    assert train_cfg['pipeline'] == test_cfg['pipeline'] == pipeline
    assert build_dataset(train_cfg)[0]['inputs'].shape == (3, 20, 24)


def test_imagenet_is_tested_on_val_and_the_small_sets_on_test():
    def split_of(kind):
        cfg = Config({'model': {'backbone': {'img_size': 224}},
                      'train_dataloader': {'dataset': {'type': kind, 'split': 'train', 'data_root': 'x'}}})
        return dataset_configs(cfg)[1]['split']
    assert split_of('ImageNet') == 'val'
    assert split_of('mmpretrain.FashionMNIST') == split_of('CIFAR10') == 'test'
    unsaid = Config({'model': {'backbone': {'img_size': 28}}, 'train_dataloader': {'dataset': {
        'type': 'FashionMNIST', 'data_root': 'x', 'pipeline': [dict(type='PackInputs')]}}})
    train, test = dataset_configs(unsaid)
    assert test['split'] == 'test'
    assert test['test_mode']
    assert not train.get('test_mode')
    assert train['pipeline'] == [dict(type='PackInputs')]  # taken whole in training, taken whole here


def test_names_and_labels_are_known_without_reading_images(folder):
    train, _ = build_datasets(config(folder))
    assert image_labels(train).tolist() == [0, 0, 0, 1, 1, 1]
    assert image_names(train)[4] == 'cat/1.png'


def test_images_that_are_no_files_are_named_by_their_index():
    class InMemory(list):
        data_prefix = {'root': ''}  # noqa: RUF012 - what the host's MNIST has

        def get_data_info(self, index):
            return {'img': self[index], 'gt_label': 0}

    assert image_names(InMemory('abc')) == ['0', '1', '2']


def test_empty_missing_and_differing_data_are_named(folder):
    (folder / 'empty').mkdir()
    with pytest.raises(ValueError, match='check the path'):
        build_dataset(dict(type='CustomDataset', data_root=str(folder / 'empty')))
    with pytest.raises(ValueError, match='check the path'):
        build_dataset(dict(type='CustomDataset', data_root=str(folder / 'nowhere')))
    with pytest.raises(ValueError, match='training images'):
        dataset_configs(Config({'model': {'backbone': {}}}))
    (folder / 'test' / 'dog').mkdir()
    cv2.imwrite(str(folder / 'test' / 'dog' / '0.png'), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(ValueError, match=r"2 classes and the test set 3; they differ in \['dog'\]"):
        build_datasets(config(folder))


def test_a_training_folder_that_does_not_exist_is_named_first(folder):
    with pytest.raises(ValueError, match=r'folder \S*/nowhere of the training images does not exist.*data_root='):
        dataset_configs(config(folder / 'nowhere'))


def test_images_without_labels_say_which_option_reads_them(folder):
    unlabelled = build_dataset(dict(type='CustomDataset', data_root=str(folder / 'test'), with_label=False))
    with pytest.raises(ValueError, match=r'--cfg-options train_dataloader\.dataset\.with_label=True'):
        image_labels(unlabelled)


def test_no_test_set_anywhere_says_what_to_add(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.data_prefix = 'test'
    with pytest.raises(ValueError, match='add a test_dataloader'):
        dataset_configs(cfg)
