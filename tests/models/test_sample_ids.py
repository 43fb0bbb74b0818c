import pytest
import torch
from mmpretrain.structures import DataSample

from mm_graft.models.sample_ids import sample_ids, sample_labels


def sample(index=None, path=None, label=None):
    made = DataSample(metainfo={key: value for key, value in (('sample_idx', index), ('img_path', path))
                                if value is not None})
    return made if label is None else made.set_gt_label(label)


def test_ids_are_the_places_in_the_data_set():
    assert sample_ids([sample(7), sample(0), sample(3)]).tolist() == [7, 0, 3]


@pytest.mark.parametrize('samples', [None, [], [sample(1), sample()]])
def test_samples_without_ids_are_refused(samples):
    with pytest.raises(ValueError, match=r'the samples have no ids.*sample_idx'):
        sample_ids(samples)


@pytest.mark.parametrize('samples', [[sample(1), sample(1)], [sample(1, 'a.png'), sample(1, 'b.png')],
                                     [sample(1, 'a.png'), sample(1)]])
def test_two_images_with_one_id_are_refused(samples):
    with pytest.raises(ValueError, match=r'have the id 1.*ConcatDataset'):
        sample_ids(samples)


def test_the_same_image_may_come_twice():
    assert sample_ids([sample(1, 'a.png'), sample(2, 'b.png'), sample(1, 'a.png')]).tolist() == [1, 2, 1]


def test_labels_are_there_if_every_sample_has_one():
    assert sample_labels([sample(0, label=4), sample(1, label=2)]).tolist() == [4, 2]
    assert sample_labels([sample(0, label=4), sample(1)]) is None
    assert sample_labels([sample(0, label=torch.tensor([1, 2])), sample(1, label=1)]) is None


def test_both_come_to_the_device_that_asks():
    assert sample_ids([sample(0, label=4)], 'meta').device.type == 'meta'
    assert sample_labels([sample(0, label=4)], 'meta').device.type == 'meta'
