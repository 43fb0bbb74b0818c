import re
from types import SimpleNamespace

import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, init_default_scope
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mm_graft.commands.data_checks import ClassNamesHook, check_data_sets, check_folder, members, number_by_name
from tests.said import said_by
from tests.test_image_folders import put


def build(root, type_='CustomDataset', **kwargs):
    init_default_scope('mmpretrain')
    return DATASETS.build(dict(type=type_, data_root=str(root), pipeline=[], **kwargs))


def labels_of(dataset):
    return {dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))}


@pytest.fixture
def told(monkeypatch):
    return said_by('mm_graft.commands.data_checks', monkeypatch)


def test_a_class_that_is_missing_in_validation_is_refused_by_name_and_the_remedy_mends_it(tmp_path):
    put(tmp_path, *(f'train/{name}/1.png' for name in 'abc'), *(f'val/{name}/1.png' for name in 'ac'))
    train, val = build(tmp_path / 'train'), build(tmp_path / 'val')
    with pytest.raises(ValueError, match=r'3 classes and val_dataloader\.dataset 2.*only in train\S+: b') as error:
        check_data_sets({'train_dataloader': train, 'val_dataloader': val})
    key, value = re.search(r'--cfg-options val_dataloader\.dataset\.(\w+)=(\S+)', str(error.value)).groups()
    val = build(tmp_path / 'val', **{'type_' if key == 'type' else key: value})
    assert labels_of(val) == {0, 1}
    check_data_sets({'train_dataloader': train, 'val_dataloader': RepeatDataset(val, 1)})
    assert labels_of(val) == {0, 2}
    assert val.metainfo['classes'] == ('a', 'b', 'c')


@pytest.mark.parametrize(('theirs', 'named'), [
    ('abd', 'only in val: d; only in train: c'), ('abcd', 'only in val: d'), ('cba', 'the order differs')])
@pytest.mark.parametrize('type_', ['CustomDataset', 'mm_graft.ImageFolder'])
def test_other_classes_are_refused_whatever_the_data_set(tmp_path, theirs, named, type_):
    put(tmp_path, *(f'{name}/1.png' for name in theirs))
    val = build(tmp_path, type_) if theirs != 'cba' else SimpleNamespace(metainfo={'classes': tuple(theirs)})
    with pytest.raises(ValueError, match=named):
        number_by_name({'train': ('a', 'b', 'c'), 'val': val})


def test_sets_without_names_and_sets_of_the_same_names_pass(tmp_path):
    put(tmp_path, 'a/1.png')
    number_by_name({'train': build(tmp_path, with_label=False), 'val': build(tmp_path)})
    number_by_name({'train': build(tmp_path), 'val': build(tmp_path), 'test': build(tmp_path)})
    number_by_name({'train': SimpleNamespace(), 'val': build(tmp_path)})


@pytest.mark.parametrize('type_', ['CustomDataset', 'mm_graft.ImageFolder'])
def test_data_sets_that_are_joined_have_the_same_classes_too(tmp_path, type_):
    put(tmp_path, *(f'one/{name}/1.png' for name in 'abc'), *(f'two/{name}/1.png' for name in 'ac'))
    parts = [build(tmp_path / name, type_, lazy_init=True) for name in ('one', 'two')]
    joined = {'train_dataloader': ConcatDataset(parts)}  # the host compares classes before it knows them
    if type_ == 'CustomDataset':
        with pytest.raises(ValueError, match=r'dataset\.datasets\.1 2, .*--cfg-options train_dataloader\.dataset\.'
                                             r'datasets\.1\.type=mm_graft\.ImageFolder'):
            check_data_sets(joined)
    else:
        check_data_sets(joined)
        assert labels_of(parts[1]) == {0, 2}


def test_every_data_set_inside_has_its_key(tmp_path):
    put(tmp_path, 'a/1.png')
    parts = [build(tmp_path) for _ in range(3)]
    nested = SimpleNamespace(datasets=[RepeatDataset(parts[0], 2), parts[1]])
    assert members('train_dataloader', nested) == {
        'train_dataloader.dataset.datasets.0.dataset': parts[0], 'train_dataloader.dataset.datasets.1': parts[1]}
    assert members('val_dataloader', parts[2]) == {'val_dataloader.dataset': parts[2]}


def test_images_that_a_joined_data_set_leaves_out_are_counted(tmp_path, told):
    put(tmp_path, 'one/a/1.png', 'two/a/1.jpg', 'two/a/2.webp')
    check_data_sets({'train_dataloader': ConcatDataset([build(tmp_path / 'one'), build(tmp_path / 'two')])})
    assert len(told) == 1
    assert 'train_dataloader.dataset.datasets.1: 1 of 2 images' in told[0]


def segmentation(root, **kwargs):
    return BaseSegDataset(data_root=str(root), data_prefix=dict(img_path='images', seg_map_path='masks'), pipeline=[],
                          metainfo=dict(classes=('a', 'b')), **kwargs)


def test_images_and_masks_that_mmseg_leaves_out_are_counted(tmp_path, told):
    put(tmp_path, 'images/1.jpg', 'images/2.png', 'images/3.JPG', 'masks/1.png', 'masks/2.png', 'masks/4.png')
    check_data_sets({'train_dataloader': segmentation(tmp_path)})
    assert len(told) == 2
    assert f"2 of 3 images below {tmp_path}/images are left out, as img_suffix is '.jpg' (first 2.png)" in told[0]
    assert f'{tmp_path}/masks holds masks without an image: 1 (first 4.png)' in told[1]
    (tmp_path / 'list.txt').write_text('1\n')
    check_data_sets({'train_dataloader': segmentation(tmp_path, ann_file='list.txt')})
    assert len(told) == 2


def test_masks_beside_their_images_are_no_images(tmp_path, told):
    put(tmp_path, 'images/1_rgb.png', 'images/1_mask.png', 'images/1_depth.tiff')
    data = BaseSegDataset(data_root=str(tmp_path), data_prefix=dict(img_path='images', seg_map_path='images'),
                          img_suffix='_rgb.png', seg_map_suffix='_mask.png', pipeline=[],
                          metainfo=dict(classes=('a', 'b')))
    check_data_sets({'train_dataloader': data})
    line, = told
    assert '1 of 2 images' in line
    put(tmp_path, 'one/1.png')
    told.clear()
    check_data_sets({'train_dataloader': BaseSegDataset(
        data_root=str(tmp_path), data_prefix=dict(img_path='one'), img_suffix='.png', pipeline=[],
        metainfo=dict(classes=('a', 'b')))})
    assert told == []


@pytest.mark.parametrize(('mode', 'said'), [('I;16', 'uint16 values from 7 to 7 of 65535'), ('RGB', None),
                                            ('RGBA', 'transparent pixels')])
@pytest.mark.parametrize('loader', ['LoadImageFromFile', 'mm_graft.LoadImageFromFile'])
def test_what_the_hosts_loader_drops_of_an_image_is_told_with_the_loader_that_says_it(
        tmp_path, told, mode, said, loader):
    put(tmp_path, 'a/1.png', 'a/2.png')
    Image.new(mode, (8, 8), 7 if mode == 'I;16' else (0, 0, 0, 9)[:len(mode)]).save(tmp_path / 'a' / '2.png')
    init_default_scope('mmpretrain')
    data = DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[
        dict(type='mmpretrain.Resize', scale=8), dict(type=loader)]))
    check_data_sets({'train_dataloader': data})
    if loader != 'LoadImageFromFile' or said is None:
        assert told == []
        return
    line, = told
    assert f'train_dataloader.dataset: image {tmp_path}/a/2.png has {said}' in line
    assert '--cfg-options train_dataloader.dataset.pipeline.1.type=mm_graft.LoadImageFromFile' in line


def test_a_class_of_which_the_host_reads_nothing_is_refused_with_the_endings(tmp_path):
    put(tmp_path, 'a/1.jpg', 'b/1.webp', 'b/2.webp', 'c/1.jpg')
    with pytest.raises(ValueError, match=r'no image: b \(left out: \.webp 2\).*train_dataloader.dataset.type=mm_graft'):
        check_folder('train_dataloader.dataset', build(tmp_path))
    check_folder('train_dataloader.dataset', build(tmp_path, 'mm_graft.ImageFolder'))


@pytest.mark.parametrize('folder', ['.ipynb_checkpoints', 'empty'])
def test_what_the_host_takes_for_a_class_and_is_none_is_refused(tmp_path, folder):
    put(tmp_path, 'a/1.jpg', f'{folder}/readme.txt')
    with pytest.raises(ValueError, match=f'no image: {folder}'):
        check_folder('train_dataloader.dataset', build(tmp_path))


@pytest.mark.parametrize('options', [{'with_label': False}, {}])
def test_images_that_the_host_leaves_out_are_counted(tmp_path, told, options):
    put(tmp_path, 'a/1.jpg', 'a/2.webp', 'a/3.TIFF', 'a/4.webp')
    check_folder('train_dataloader.dataset', build(tmp_path, **options))
    line, = told
    assert f'3 of 4 images below {tmp_path}' in line
    assert '(.webp 2, .tiff 1)' in line
    assert '--cfg-options train_dataloader.dataset.type=mm_graft.ImageFolder' in line


def test_nothing_is_said_where_nothing_is_left_out_or_a_list_names_the_images(tmp_path, told):
    put(tmp_path, 'a/1.jpg', 'b/2.png')
    check_folder('train_dataloader.dataset', build(tmp_path))
    (tmp_path / 'list.txt').write_text('a/1.jpg 0\n')
    put(tmp_path, 'c/3.webp')
    check_folder('train_dataloader.dataset', build(tmp_path, ann_file='list.txt'))
    check_folder('train_dataloader.dataset', SimpleNamespace())
    assert told == []


@pytest.mark.parametrize(('loader', 'resume', 'refused'), [
    ('test_dataloader', False, True), ('train_dataloader', True, True), ('train_dataloader', False, False)])
def test_a_checkpoint_is_tested_and_resumed_with_the_classes_that_it_was_trained_on(tmp_path, loader, resume, refused):
    put(tmp_path, 'a/1.png', 'c/1.png')
    data = SimpleNamespace(dataset=build(tmp_path))
    runner = SimpleNamespace(_resume=resume, train_dataloader=data, test_dataloader=data)
    checkpoint = {'meta': {'dataset_meta': {'classes': ('a', 'b', 'c')}}}
    hook = ClassNamesHook(loader)
    if refused:
        with pytest.raises(ValueError, match=f'the checkpoint has 3 classes and {loader}.dataset 2.*the checkpoint: b'):
            hook.after_load_checkpoint(runner, checkpoint)
    else:
        hook.after_load_checkpoint(runner, checkpoint)
    for known in ({'meta': {'dataset_meta': {'classes': ('a', 'c')}}}, {'meta': {}}, {}):
        hook.after_load_checkpoint(runner, known)
