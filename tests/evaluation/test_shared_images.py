import logging
import os
import shutil

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from PIL import Image

from mm_graft.datasets.image_folder import ImageFolder
from mm_graft.evaluation import shared_images as module
from mm_graft.evaluation.shared_images import shared_images, warn_of_shared


class InMemory(BaseDataset):

    def __init__(self, images):
        self.images = images
        super().__init__()

    def load_data_list(self):
        return [{'img': image, 'gt_label': 0} for image in self.images]


@pytest.fixture
def folders(tmp_path):
    """Training images, and test images of which one is another, one a link to and one a copy of a training image."""
    for name, numbers in (('train', range(3)), ('test', (7, ))):
        (tmp_path / name / 'class').mkdir(parents=True)
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / 'class' / f'{number}.bmp')  # of one size
    test = tmp_path / 'test' / 'class'
    (test / 'link.bmp').symlink_to(tmp_path / 'train' / 'class' / '0.bmp')
    shutil.copy(tmp_path / 'train' / 'class' / '1.bmp', test / 'copy.bmp')
    return tmp_path


def sets(folder):
    return tuple(ImageFolder(data_root=str(folder / name)) for name in ('train', 'test'))


def test_links_and_copies_are_shared_and_other_files_of_that_size_are_not(folders):
    assert len({os.path.getsize(path) for path in folders.glob('*/class/*')}) == 1
    assert shared_images(*sets(folders)) == ['class/copy.bmp', 'class/link.bmp']


def test_large_sets_are_compared_by_their_paths_without_a_question_to_the_storage(folders, monkeypatch):
    train, test = sets(folders)
    monkeypatch.setattr(module, 'LIMIT', 5)
    shutil.rmtree(folders)
    assert shared_images(train, test) == []
    assert shared_images(train, train) == ['class/0.bmp', 'class/1.bmp', 'class/2.bmp']


def test_images_in_memory_are_compared_by_their_pixels():
    images = [np.full((2, 2), value, np.uint8) for value in range(4)]
    assert shared_images(InMemory(images[:3]), InMemory(images[2:])) == ['0']


def test_what_is_shared_is_said(folders, monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda text, **kwargs: said.append((text, kwargs['level'])))
    train, test = sets(folders)
    warn_of_shared(train, test)
    warn_of_shared(train, train)
    (folders / 'test' / 'class' / 'link.bmp').unlink()
    (folders / 'test' / 'class' / 'copy.bmp').unlink()
    warn_of_shared(*sets(folders))
    ends = ', so that scores say nothing about other images; take them out of one of the sets'
    assert said == [
        (f'2 of 3 test images are training images too (class/copy.bmp, class/link.bmp){ends}', logging.WARNING),
        (f'the test images are the training images{ends}', logging.WARNING)]
