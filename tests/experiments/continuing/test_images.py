import numpy as np
import pytest
import torch
from PIL import Image

from experiments.continuing import images

CLASSES = ('cat', 'dog')


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for name, count in {'OWN': 3, 'BANK': 2, 'HELD_OUT': 1, 'TEST': 2}.items():
        monkeypatch.setattr(images, name, count)


def draw(folder, count):
    """Each image is of one color, which says its class and its number."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            color = np.full((4, 4, 3), (100 * label, number, 7), np.uint8)
            Image.fromarray(color).save(folder / name / f'{number}.png')


def test_shares_of_a_class_do_not_overlap():
    shares = images.per_class([1, 0, 1, 0, 1, 0], [1, 2])
    assert shares == [[0, 1], [2, 3, 4, 5]]
    assert images.per_class([0, 1, 1], [1]) == [[0, 1]]


def test_own_bank_and_held_out_images_are_different_ones_of_the_training_set(tmp_path):
    draw(tmp_path / 'train', 7)
    draw(tmp_path / 'test', 4)
    names, domain = images.read_cifar10(tmp_path)
    assert names == [f'{name}/{number}.png' for name in CLASSES for number in range(3)]
    numbers = {part: getattr(domain, part).images[:, 1, 0, 0].tolist() for part in ('bank', 'held_out', 'test')}
    assert numbers == {'bank': [3, 4, 3, 4], 'held_out': [5, 5], 'test': [0, 1, 0, 1]}
    assert domain.bank.labels.tolist() == [0, 0, 1, 1]
    assert domain.bank.images[2].flatten(1)[:, 0].tolist() == [100, 3, 7]  # RGB


class Downloaded:
    """What mmpretrain gives for its download."""

    def __init__(self, **kwargs):
        self.metainfo = {'classes': CLASSES}
        self.labels = [0, 1] * 8

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, row):
        return {'img': np.full((4, 4, 3), row, np.uint8), 'gt_label': self.labels[row]}


def test_a_download_becomes_a_folder_for_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr(images, 'CIFAR10', Downloaded)
    root = images.prepare_cifar10(tmp_path)
    assert sorted(path.name for path in (root / 'test' / 'dog').iterdir()) == [f'{row:05d}.png' for row in
                                                                               (1, 3, 5, 7, 9, 11)]
    assert images.pixels(root / 'train' / 'cat' / '00010.png').unique().tolist() == [10]
    monkeypatch.setattr(images, 'CIFAR10', lambda **kwargs: pytest.fail('fetched again'))
    images.prepare_cifar10(tmp_path)


def test_an_unreachable_server_is_named(tmp_path, monkeypatch):
    def fail(**kwargs):
        raise OSError('no route')

    monkeypatch.setattr(images, 'CIFAR10', fail)
    with pytest.raises(RuntimeError, match=r'CIFAR-10 could not be fetched \(no route'):
        images.prepare_cifar10(tmp_path)


def test_grey_images_have_three_equal_channels(tmp_path, monkeypatch):
    class Gray(Downloaded):
        def get_data_info(self, row):
            return {'img': torch.full((5, 5), row, dtype=torch.uint8), 'gt_label': self.labels[row]}

    monkeypatch.setattr(images, 'FashionMNIST', Gray)
    monkeypatch.setattr(images, 'prepare_fashion_mnist', lambda root: root)
    domain = images.read_fashion_mnist(tmp_path)
    assert domain.bank.images.shape == (4, 3, 5, 5)
    assert domain.bank.images[:, 0, 0, 0].tolist() == domain.bank.images[:, 2, 4, 4].tolist() == [0, 1, 2, 3]
    assert domain.held_out.images[:, 0, 0, 0].tolist() == [4, 5]
