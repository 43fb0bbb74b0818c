import numpy as np
import pytest

from mm_graft.datasets.transforms.load_channels import LoadChannels
from tests.said import said_by


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / 'five.npy', np.full((8, 6, 5), 100, np.uint16))
    np.save(tmp_path / 'two.npy', np.zeros((8, 6, 2), np.uint8))
    return tmp_path


def test_an_image_keeps_its_channels(files):
    loaded = LoadChannels(channels=5, value_range=(0, 200)).transform({'img_path': str(files / 'five.npy')})
    assert loaded['img'].shape == (8, 6, 5)
    assert loaded['img'].max() == 127.5
    assert loaded['img_shape'] == loaded['ori_shape'] == (8, 6)


def test_another_number_of_channels_is_a_bad_image_and_counted(files):
    loader = LoadChannels(channels=5, max_bad=0)
    with pytest.raises(RuntimeError, match=r'two\.npy cannot be used \(it has 2 channels instead of 5\)'):
        loader.transform({'img_path': str(files / 'two.npy')})
    assert LoadChannels(channels=5).transform({'img_path': str(files / 'two.npy')}) is None


def test_images_that_are_too_large_are_bad_ones(files):
    path = {'img_path': str(files / 'five.npy')}
    assert LoadChannels(channels=5, max_pixels=48).transform(path)['img'].shape == (8, 6, 5)
    with pytest.raises(RuntimeError, match='6 x 8 pixels are too many'):
        LoadChannels(channels=5, max_pixels=47, max_bad=0).transform(path)


def test_bits_that_are_not_used_are_told_once_unless_a_range_is_given(files, monkeypatch):
    said = said_by('mm_graft.datasets.transforms.tolerant_image', monkeypatch)
    np.save(files / 'twelve.npy', np.full((8, 6, 5), 4095, np.uint16))
    np.save(files / 'sixteen.npy', np.full((8, 6, 5), 65535, np.uint16))
    loader = LoadChannels(channels=5)
    for name in ('sixteen', 'twelve', 'twelve'):
        loader.transform({'img_path': str(files / f'{name}.npy')})
    assert len(said) == 1
    assert f'{files}/twelve.npy has uint16 values from 4095 to 4095 of 65535' in said[0]
    assert 'value_range=(0, 4095)' in said[0]
    LoadChannels(channels=5, value_range=(0, 4095)).transform({'img_path': str(files / 'twelve.npy')})
    assert len(said) == 1
