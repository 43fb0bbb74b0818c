import numpy as np
import pytest
from mmengine.registry import MODELS
from PIL import Image

from mm_graft.commands.start import labels
from mm_graft.encoders import Encoder
from mm_graft.image_folders import list_images
from tests.tiny import VIT


@pytest.fixture(scope='module')
def encoder():
    vit = MODELS.build(dict(type='mm_graft.GraftViT', **VIT))
    vit.init_weights()
    return Encoder(vit, mean=[120.] * 3, std=[60.] * 3).eval()


def pictures(folder, count, classes=('dark', 'light')):
    for label, name in enumerate(classes):
        for index in range(count):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (40, 30), (200 * label + index, ) * 3).save(folder / name / f'{index}.png')
    (folder / classes[0] / 'z.png').write_bytes(b'broken')
    return str(folder)


def test_the_majority_of_the_others_decides_and_the_nearest_a_draw():
    angles = np.deg2rad([0, 1, 2, 90, 91, 93])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert labels.leave_one_out(features, np.array([0, 0, 0, 1, 1, 1]), 2) == 1.0
    assert labels.leave_one_out(features, np.array([0, 1, 1, 0, 0, 0]), 2) == pytest.approx(4 / 6)
    assert labels.leave_one_out(features, np.array([1, 0, 1, 0, 0, 0]), 1) == pytest.approx(3 / 6)


def test_labeled_images_are_read_with_their_classes_and_broken_ones_left_out(tmp_path):
    pixels, known = labels.read_labeled(list_images(pictures(tmp_path, 2), labeled=True), (16, 16))
    assert known.tolist() == [0, 0, 1, 1]
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 200, 201]


def test_without_images_to_score_on_each_is_left_out_in_turn(encoder, tmp_path):
    table, classes = labels.labeled({'before': encoder, 'after': encoder}, pictures(tmp_path, 6), None, (32, 32))
    assert table.table[0] == ['protocol', 'before', 'after']
    assert table.table[1] == ['5 nearest neighbors, each image left out in turn, %', 100.0, 100.0]
    assert len(classes.figure.axes) == 2


def test_with_images_to_score_on_there_are_three_protocols(encoder, tmp_path):
    pictures(tmp_path / 'train', 6)
    pictures(tmp_path / 'val', 3, ('light', ))  # a class is missing there, and the numbers stay
    table, _ = labels.labeled({'only': encoder}, str(tmp_path), None, (32, 32))
    assert [row[0].split(' ')[0] for row in table.table] == ['protocol', 'nearest', 'linear', 'logistic']
    assert 'on 2 images (1 % of them' in table.table[3][0]
    assert all(0 <= row[1] <= 100 for row in table.table[1:])
    assert '13 images of 2 classes; scored on' in table.text


def test_the_first_protocol_follows_the_features_it_is_given():
    train, known = {'right': np.eye(4)[[0, 0, 1, 1]], 'wrong': np.eye(4)[[1, 1, 0, 0]]}, np.array([0, 0, 1, 1])
    rows = labels.accuracies(train, known, {name: np.eye(4)[[0, 1]] for name in train}, np.array([0, 1]), 'ab')
    assert all(row[1:] == [100.0, 0.0] for row in rows)
