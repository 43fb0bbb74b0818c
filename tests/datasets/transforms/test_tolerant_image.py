import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader

from mm_graft.datasets.transforms.tolerant_image import LoadImageFromFile, SharedSet, TolerantLoadImageFromFile
from mm_graft.image_files import BadImageError
from tests.own_process import in_processes
from tests.said import said_by
from tests.test_image_files import RAMP, png_of


def encoded(suffix):
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (120, 90))
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        (tmp_path / f'{index:02}.jpg').write_bytes(encoded('.jpg'))
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    return said_by('mm_graft.datasets.transforms.tolerant_image', monkeypatch)


def dataset(folder, **kwargs):
    return CustomDataset(data_root=str(folder), with_label=False,
                         pipeline=[dict(type='mm_graft.TolerantLoadImageFromFile', **kwargs)])


@pytest.mark.parametrize('options', [{}, {'to_float32': True}, {'color_type': 'grayscale'},
                                     {'imdecode_backend': 'pillow'}])
def test_a_good_image_is_what_the_host_loads(folder, options):
    host = TRANSFORMS.build(dict(type='LoadImageFromFile', **options))
    expected = host({'img_path': str(folder / '00.jpg')})
    actual = TolerantLoadImageFromFile(**options)({'img_path': str(folder / '00.jpg')})
    assert expected['img'].dtype == actual['img'].dtype
    assert expected.keys() == actual.keys()
    assert np.array_equal(expected['img'], actual['img'])


@pytest.mark.parametrize('fault', ['missing', 'empty', 'cut', 'text', 'bomb'])
def test_a_bad_image_is_named_counted_and_replaced(folder, warnings, fault):
    data = dataset(folder)
    data.full_init()
    path = folder / '03.jpg'
    if fault == 'missing':
        path.unlink()
    else:
        path.write_bytes({'empty': b'', 'cut': encoded('.jpg')[:500], 'text': b'no image',
                          'bomb': png_of(50000, 50000)}[fault])
    sample = data[3]
    assert sample['img'].shape == (90, 120, 3)
    assert sample['img_path'] != str(path)
    assert [text for text in warnings if str(path) in text and 'bad image 1 of at most 100' in text]


def test_too_many_are_an_error_over_all_processes(folder, warnings):
    data = dataset(folder, max_bad=3)
    data.full_init()
    for index in range(6):
        (folder / f'{index:02}.jpg').write_bytes(b'')
    loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=list)
    with pytest.raises(RuntimeError, match=r'bad image [45] of at most 3; repair the data, or raise max_bad'):
        list(loader)


def test_a_file_counts_once_however_often_it_is_met(folder, warnings):
    data = dataset(folder, max_bad=2)
    data.full_init()
    for index in (3, 4):
        (folder / f'{index:02}.jpg').write_bytes(b'not a jpeg!')
    for workers in (0, 2):
        for _ in range(5):  # epochs
            list(DataLoader(data, batch_size=1, num_workers=workers, collate_fn=list))
    assert len([line for line in warnings if 'bad image' in line]) == 2
    loader = data.pipeline.transforms[0]
    assert len(loader.bad_files) == 2
    (folder / '05.jpg').unlink()
    with pytest.raises(RuntimeError, match='bad image 3 of at most 2; repair the data, or raise max_bad'):
        list(DataLoader(data, batch_size=1, collate_fn=list))


def test_no_bad_image_at_all_may_be_allowed(folder, warnings):
    (folder / 'bad.jpg').write_bytes(b'')
    with pytest.raises(RuntimeError, match='bad image 1 of at most 0'):
        TolerantLoadImageFromFile(max_bad=0)({'img_path': str(folder / 'bad.jpg')})


def test_the_strict_loader_names_file_and_reason(folder):
    path = folder / 'bad.jpg'
    path.write_bytes(b'no image')
    with pytest.raises(BadImageError, match=f'image {path} cannot be used: no known image format'):
        LoadImageFromFile()({'img_path': str(path)})
    assert LoadImageFromFile(ignore_empty=True)({'img_path': str(path)}) is None


@pytest.mark.parametrize('workers', [0, 3])
def test_a_loss_of_depth_is_told_once_by_all_processes_and_epochs_together(tmp_path, warnings, workers):
    for index in range(12):
        cv2.imwrite(str(tmp_path / f'{index:02}.png'), RAMP)
    data = dataset(tmp_path)
    for _ in range(2):
        list(DataLoader(data, batch_size=1, num_workers=workers, collate_fn=list))
    assert data.pipeline.transforms[0].told.tolist() == [1, 0, 0, 0]
    said = [line for line in warnings if 'uint16 values from 0 to 4095 of 65535' in line]
    assert len(said) == (not workers)  # the others' lines are in their memory
    data[0]
    assert len(warnings) == len(said)


def test_rules_come_from_the_config(tmp_path, warnings):
    cv2.imwrite(str(tmp_path / 'ct.png'), RAMP)
    loaded = TRANSFORMS.build(dict(type='mm_graft.TolerantLoadImageFromFile', value_range=[0, 4095]))
    assert loaded({'img_path': str(tmp_path / 'ct.png')})['img'].max() == 255
    assert warnings == []
    assert TolerantLoadImageFromFile(max_pixels=4095)({'img_path': str(tmp_path / 'ct.png')}) is None
    assert '64 x 64 pixels are more than max_pixels=4095' in warnings[-1]


def test_transparent_pixels_show_the_background(tmp_path):
    cv2.imwrite(str(tmp_path / 'clear.png'), np.zeros((4, 4, 4), np.uint8))
    for options, level in (({}, 255), ({'background': 9}, 9)):
        assert (LoadImageFromFile(**options)({'img_path': str(tmp_path / 'clear.png')})['img'] == level).all()


def test_files_that_others_met_count_up_to_the_limit():
    loader, others = TolerantLoadImageFromFile(max_bad=2), SharedSet(4)
    for name in 'abc':
        others.add(name)
    loader.count_more(others.hashes()[:2])
    loader.count_more(others.hashes()[:2])
    assert len(loader.bad_files) == 2
    with pytest.raises(RuntimeError, match=r'3 images cannot be used, .* of at most 2; repair'):
        loader.count_more(others.hashes())


def test_a_full_set_takes_no_more_and_answers():
    found = SharedSet(1)
    added = [found.add(str(number)) for number in range(100)]
    assert len(found) == sum(added) == len(found.table) >= 2
    assert not any(found.add_hash(value) for value in found.hashes())


def test_the_set_holds_each_text_once_and_starts_again_from_its_hashes():
    texts = [f'images/{number}.jpg' for number in range(200)]
    found = SharedSet(200)
    assert [found.add(text) for text in texts] == [True] * 200
    assert [found.add(text) for text in texts] == [False] * 200
    assert len(found) == len(set(found.hashes())) == 200
    other = SharedSet(200)
    assert all(other.add_hash(value) for value in found.hashes())
    assert not other.add(texts[7])
    assert other.add('another')


def add_two(rank, found):
    found.add('common')
    found.add(f'of process {rank}')


def test_processes_fill_one_set():
    found = SharedSet(8)
    in_processes(add_two, found, processes=2)
    assert len(found) == 3


@pytest.mark.parametrize('limits', [{'max_bad': -1}, {'max_pixels': 0}, {'value_range': 3}])
def test_limits_are_checked(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        TolerantLoadImageFromFile(**limits)
