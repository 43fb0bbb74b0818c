import pytest
from mmengine.fileio import HTTPBackend
from mmengine.registry import DATASETS, init_default_scope

from tests.said import said_by
from tests.test_image_folders import put


@pytest.fixture
def said(monkeypatch):
    return said_by('mm_graft.datasets.image_folder', monkeypatch)


def build(root, **kwargs):
    init_default_scope('mmpretrain')
    return DATASETS.build(dict(type='mm_graft.ImageFolder', data_root=str(root), pipeline=[], **kwargs))


def rows(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(info['img_path'].removeprefix(str(dataset.data_root)).lstrip('/'), info.get('gt_label')) for info in infos]


def test_a_class_that_is_all_webp_is_trained_on_and_what_is_left_out_is_said_in_one_line(tmp_path, said):
    put(tmp_path, 'a/1.jpg', 'b/1.webp', 'b/2.WEBP', 'c/1.tiff', 'c/notes.txt', '.git/1.jpg', 'empty/readme.md')
    dataset = build(tmp_path)
    assert rows(dataset) == [('a/1.jpg', 0), ('b/1.webp', 1), ('b/2.WEBP', 1), ('c/1.tiff', 2)]
    assert dataset.metainfo['classes'] == ('a', 'b', 'c')
    line, = said
    for part in ('4 images of 3 classes', '.md 1, .txt 1', '1 hidden', 'no classes: empty'):
        assert part in line


def test_without_labels_images_of_any_depth_are_used(tmp_path, said):
    put(tmp_path, 'x/y/1.png', '2.jfif', 'x/3.heic')
    assert rows(build(tmp_path, with_label=False)) == [('2.jfif', None), ('x/y/1.png', None)]
    assert '2 images; passed over: 1 without the ending of an image format that is read (.heic 1)' in said[0]


def test_a_validation_set_in_which_a_class_is_missing_has_the_training_sets_numbers(tmp_path, said):
    put(tmp_path, 'train/a/1.png', 'train/b/1.png', 'train/c/1.png', 'val/a/1.png', 'val/c/1.png')
    names = build(tmp_path, data_prefix='train').metainfo['classes']
    val = build(tmp_path, data_prefix='val', classes=list(names))
    assert rows(val) == [('val/a/1.png', 0), ('val/c/1.png', 2)]
    assert val.metainfo['classes'] == names
    assert 'classes without an image here: b' in said[1]


def test_a_set_that_is_built_can_be_numbered_by_another_ones_classes(tmp_path, said):
    put(tmp_path, 'a/1.png', 'c/1.png')
    dataset = build(tmp_path)
    assert rows(dataset) == [('a/1.png', 0), ('c/1.png', 1)]
    dataset.number_by(['c', 'b', 'a'])
    assert rows(dataset) == [('a/1.png', 2), ('c/1.png', 0)]
    assert dataset.metainfo['classes'] == ('c', 'b', 'a')


def test_names_of_classes_may_come_from_a_file(tmp_path, said):
    put(tmp_path, 'data/a/1.png', 'data/b/1.png')
    (tmp_path / 'names.txt').write_text('b\na\n')
    assert rows(build(tmp_path / 'data', classes=str(tmp_path / 'names.txt'))) == [('a/1.png', 1), ('b/1.png', 0)]


def test_lists_are_read_as_the_host_reads_them_but_for_a_byte_order_mark(tmp_path, said):
    (tmp_path / 'list.txt').write_text('\ufeffx y/1.png 3\r\n2.png 0\r\n')
    assert rows(build(tmp_path, ann_file='list.txt')) == [('x y/1.png', 3), ('2.png', 0)]
    (tmp_path / 'names.txt').write_text('x/1.png\n2.png\n')
    assert rows(build(tmp_path, ann_file='names.txt', with_label=False)) == [('x/1.png', None), ('2.png', None)]
    assert said == []
    with pytest.raises(ValueError, match='numbers the classes'):
        build(tmp_path, ann_file='list.txt').number_by(['a', 'b'])


def test_folders_on_other_storage_than_disks_are_read_as_the_host_does(tmp_path, said, monkeypatch):
    put(tmp_path, 'a/1.png', 'b/1.png', '.hidden/1.png')
    monkeypatch.setattr('mm_graft.datasets.image_folder.get_file_backend', lambda *args, **kwargs: HTTPBackend())
    theirs = DATASETS.build(dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[]))
    assert rows(build(tmp_path)) == rows(theirs)
    assert '.hidden' in build(tmp_path).metainfo['classes']
    assert said == []


@pytest.mark.parametrize(('names', 'options', 'hint'), [
    (['1.png'], {}, 'no images are used.*1 outside the folders of classes.*with_label=False'),
    (['a/1.heic'], {}, 'heic 1'), (['1.txt'], {'with_label': False}, 'check the path'),
    (['a/1.png'], {'classes': ['b']}, '1 folders of other classes'), (['a/1.png'], {'extensions': ['.jpg']}, 'png 1')])
def test_a_folder_of_which_nothing_is_used_is_refused_with_what_is_there(tmp_path, said, names, options, hint):
    with pytest.raises(ValueError, match=hint):
        build(put(tmp_path, *names), **options)
