import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mm_graft.datasets.transforms.tolerant_image import LoadImageFromFile
from mm_graft.evaluation.datasets import (
    augmented_pipeline,
    build_dataset,
    build_datasets,
    build_test_set,
    class_names,
    dataset_configs,
    folder_of_images,
    image_labels,
    image_names,
    image_size,
    kind_of,
    num_channels,
    reading_of,
    training_set_config,
)
from mm_graft.image_files import BadImageError


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


def test_the_test_folder_is_also_found_where_the_root_itself_ends_in_train_or_the_prefix_is_a_dict(folder):
    cfg = config(folder / 'train')
    cfg.train_dataloader.dataset.data_prefix = ''
    train, test = dataset_configs(cfg)
    assert (train['data_root'], test['data_root']) == (str(folder / 'train'), str(folder / 'test'))
    plain = {**config(folder).train_dataloader.dataset.to_dict(), 'data_prefix': dict(img_path='train', other='x')}
    wrapper = dict(type='mmpretrain.ClassBalancedDataset', oversample_thr=0.5, dataset=plain)  # which comes off
    _, test = dataset_configs(config(folder, train_dataloader=dict(dataset=wrapper)))
    assert test['data_prefix'] == dict(img_path='test', other='x')


def test_a_choice_among_the_training_images_is_none_among_the_test_images(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.indices = [0, 5]
    assert [len(dataset) for dataset in build_datasets(cfg)] == [2, 6]


@pytest.mark.parametrize('loader', ['LoadImageFromFile', 'mm_graft.TolerantLoadImageFromFile'])
def test_images_are_loaded_by_the_packages_rules_and_none_is_replaced(folder, loader):
    cfg = config(folder)
    settings = dict(max_bad=3) if 'Tolerant' in loader else {}
    cfg.train_dataloader.dataset.pipeline[0] = dict(type=loader, color_type='grayscale', **settings)
    train, test = build_datasets(cfg)
    for dataset in (train, test):
        assert type(dataset.pipeline.transforms[0]) is LoadImageFromFile
        assert dataset[0]['inputs'].shape == (1, 16, 16)
    (folder / 'test/cat/1.png').write_bytes(b'broken')
    with pytest.raises(BadImageError, match=r'cat/1\.png cannot be used: no known image format'):
        test[4]


def test_the_share_of_the_image_that_is_cropped_can_be_chosen(folder):
    sizes = []
    for chosen in (None, 1, 0.5):
        steps = dataset_configs(config(folder, crop_share=chosen))[1]['pipeline']
        sizes.append((next(step['scale'] for step in steps if 'Cover' in step['type']), steps[-2]['crop_size']))
    assert sizes == [((19, 19), (16, 16)), ((16, 16), (16, 16)), ((32, 32), (16, 16))]
    own = dict(dataset=dict(type='CustomDataset', data_root=str(folder), pipeline=[dict(type='PackInputs')]))
    with pytest.raises(ValueError, match='crop_share=1 would change nothing'):
        dataset_configs(config(folder, crop_share=1, test_dataloader=own))


def test_the_test_set_is_built_without_training_images(folder):
    shutil.rmtree(folder / 'train' / 'cat')
    assert class_names(build_test_set(config(folder))) == ('bird', 'cat')
    with pytest.raises(ValueError, match='differ in'):
        build_datasets(config(folder))


def test_a_configured_test_pipeline_loads_strictly_too_and_wrappers_come_off(folder):
    pipeline = [dict(type='mm_graft.TolerantLoadImageFromFile', max_bad=1, value_range=(0, 9)), dict(type='PackInputs')]
    plain = config(folder).train_dataloader.dataset.to_dict()
    test = {**plain, 'data_prefix': 'test', 'pipeline': pipeline}
    wrapped = config(folder, train_dataloader={'dataset': {'type': 'RepeatDataset', 'times': 3, 'dataset': plain}},
                     test_dataloader={'dataset': test})
    train_cfg, test_cfg = dataset_configs(wrapped)
    assert (train_cfg['data_prefix'], test_cfg['data_prefix']) == ('train', 'test')
    assert train_cfg['pipeline'] == test_cfg['pipeline'] == [
        dict(type='mm_graft.LoadImageFromFile', value_range=(0, 9)), dict(type='PackInputs')]
    assert build_dataset(train_cfg)[0]['inputs'].shape == (3, 20, 24)


@pytest.mark.parametrize('split', ['train_dataloader', 'test_dataloader'])
def test_wrappers_that_choose_or_join_images_do_not_come_off(folder, split):
    plain = config(folder).train_dataloader.dataset.to_dict()
    for wrapper in (dict(type='KFoldDataset', dataset=plain), dict(type='mmpretrain.KFoldDataset', dataset=plain),
                    dict(type='ConcatDataset', datasets=[plain]),
                    dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[plain]))):
        kind = 'KFoldDataset' if 'KFold' in wrapper['type'] else 'ConcatDataset'
        with pytest.raises(ValueError, match=f'^{kind} joins data sets or chooses .*--labels'):
            dataset_configs(config(folder, **{split: dict(dataset=wrapper)}))


@pytest.mark.parametrize(('size', 'shape'), [(16, (16, 16)), ((16, 32), (16, 32)), ([32, 16], (32, 16))])
def test_crops_have_the_height_and_width_of_the_backbones_images(folder, size, shape):
    cfg = config(folder, model={'backbone': {'img_size': size}})
    assert image_size(cfg) == shape
    train, _ = build_datasets(cfg)
    assert train[0]['inputs'].shape == (3, *shape)
    settings = dataset_configs(cfg)[0]
    crops = build_dataset({**settings, 'pipeline': augmented_pipeline(cfg, settings['pipeline'])})
    assert crops[0]['inputs'].shape == (3, *shape)
    low, high = crops.pipeline.transforms[1].aspect_ratio_range
    assert (low, high) == pytest.approx((0.75 * shape[1] / shape[0], 4 / 3 * shape[1] / shape[0]))


def test_a_wide_crop_shows_the_middle_at_the_aspect_of_the_image(folder):
    pixels = np.zeros((70, 280, 3), np.uint8)
    pixels[10:60, 40:240] = 255  # what is left of 5/7 of height and width
    cv2.imwrite(str(folder / 'train/bird/0.png'), pixels)
    train, _ = build_datasets(config(folder, model={'backbone': {'img_size': (50, 200)}}))
    image = train[0]['inputs']
    assert image.shape == (3, 50, 200)
    share = 224 / 256
    assert (image == 255).float().mean() == pytest.approx(50 / 70 * 200 / 280 / share**2, abs=0.03)


@pytest.mark.parametrize('channels', [{'in_channels': 1}, {'patch_cfg': {'in_channels': 1}}, {'in_chans': 1}])
def test_images_have_as_many_channels_as_the_model(folder, channels):
    cfg = config(folder, model={'backbone': {'img_size': 16, **channels}})
    assert num_channels(cfg) == 1
    assert build_datasets(cfg)[1][0]['inputs'].shape == (1, 16, 16)
    assert num_channels(config(folder)) == 3


def test_every_ending_is_evaluated_and_what_is_no_class_is_not_counted(folder):
    for path in (folder / 'train/cat').iterdir():
        Image.open(path).save(path.with_suffix('.webp'))
        path.unlink()
    for name in ('.ipynb_checkpoints', 'empty'):
        (folder / 'train' / name).mkdir()
    train, test = build_datasets(config(folder))
    assert image_labels(train).tolist() == image_labels(test).tolist() == [0, 0, 0, 1, 1, 1]
    assert class_names(train) == ('bird', 'cat')


def test_a_test_set_with_some_of_the_classes_has_the_numbers_of_the_training_set(folder):
    shutil.rmtree(folder / 'test/bird')
    _, test = build_datasets(config(folder))
    assert image_labels(test).tolist() == [1, 1, 1]
    assert class_names(test) == ('bird', 'cat')


@pytest.mark.parametrize('root_is_train', [True, False])
def test_a_flat_test_folder_without_labels_gives_way_to_val(folder, root_is_train):
    (folder / 'test').rename(folder / 'val')
    (folder / 'test').mkdir()
    shutil.copy(folder / 'val/cat/0.png', folder / 'test/1.png')
    cfg = config(folder / 'train' if root_is_train else folder)
    cfg.train_dataloader.dataset.data_prefix = '' if root_is_train else 'train'
    _, test = build_datasets(cfg)
    assert test.img_prefix.rstrip('/') == str(folder / 'val')
    shutil.rmtree(folder / 'val')
    with pytest.raises(ValueError, match=r'test hold none.*add a test_dataloader'):
        dataset_configs(cfg)


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
    listed = dict(type='CustomDataset', data_root=str(folder), ann_file='list.txt', pipeline=[])
    (folder / 'list.txt').write_text('test/cat/0.png 0\n')
    loaders = [{'dataset': {**listed, 'metainfo': {'classes': list(names)}}} for names in (('a', 'b'), ('b', 'a'))]
    with pytest.raises(ValueError, match='their order differs'):
        build_datasets(config(folder, train_dataloader=loaders[0], test_dataloader=loaders[1]))


def test_a_training_folder_that_does_not_exist_is_named_first(folder):
    with pytest.raises(ValueError, match=r'folder \S*/nowhere of the training images does not exist.*data_root='):
        dataset_configs(config(folder / 'nowhere'))


def test_images_without_labels_say_which_option_reads_them(folder):
    unlabeled = build_dataset(dict(type='CustomDataset', data_root=str(folder / 'test'), with_label=False))
    with pytest.raises(ValueError, match=r'--cfg-options train_dataloader\.dataset\.with_label=True'):
        image_labels(unlabeled)


def test_no_test_set_anywhere_says_what_to_add(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.data_prefix = 'test'
    with pytest.raises(ValueError, match='add a test_dataloader'):
        dataset_configs(cfg)


def test_images_of_many_channels_are_read_as_in_training_and_resized_by_opencv(folder):
    cfg = config(folder, model={'backbone': {'img_size': 16, 'in_channels': 5}})
    cfg.train_dataloader.dataset.pipeline[0] = dict(
        type='mm_graft.LoadChannels', channels=5, value_range=(0, 9), max_bad=3)
    for settings in (*dataset_configs(cfg), training_set_config(cfg)):
        load, resize, *_ = settings['pipeline']
        assert load == dict(type='mm_graft.LoadChannels', channels=5, value_range=(0, 9), max_bad=0)
        assert (resize['backend'], resize['interpolation']) == ('cv2', 'bicubic')
    assert '.npy' in folder_of_images(cfg)['extensions']
    cfg.train_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', background=0)
    assert reading_of(cfg) == dict(background=0, channels=5)  # the model says so


def test_photographs_are_resized_by_pillow_as_the_authors_do(folder):
    cfg = config(folder)
    test, crops = dataset_configs(cfg)[1]['pipeline'], augmented_pipeline(cfg, dataset_configs(cfg)[0]['pipeline'])
    assert (test[1]['backend'], test[1]['interpolation'], crops[1]['backend']) == ('pillow', 'bicubic', 'pillow')
    assert [kind_of(step) for step in crops] == ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']
    assert crops[2]['prob'] == 0.5
    assert '.npy' not in folder_of_images(cfg)['extensions']
    gray = dict(backbone=dict(img_size=16, in_channels=1))
    assert reading_of(config(folder, model=gray)) == {}


def test_of_a_test_and_a_validation_set_the_test_set_is_taken(folder):
    plain = config(folder).train_dataloader.dataset.to_dict()
    loaders = {f'{name}_dataloader': dict(dataset={**plain, 'data_prefix': name}) for name in ('val', 'test')}
    assert dataset_configs(config(folder, **loaders))[1]['data_prefix'] == 'test'
    del loaders['test_dataloader']
    assert dataset_configs(config(folder, **loaders))[1]['data_prefix'] == 'val'


def test_images_outside_the_folder_have_their_bare_names():
    class Listed(list):
        data_prefix = {'img_path': '/data/train'}  # noqa: RUF012 - as the host's

        def get_data_info(self, index):
            return {'img_path': self[index], 'gt_label': [3]}

    listed = Listed(['/data/train/a/1.png', '/elsewhere/b/2.png', '/data/train2/3.png'])
    assert image_names(listed) == ['a/1.png', '2.png', '3.png']
    assert image_labels(listed).tolist() == [3, 3, 3]
