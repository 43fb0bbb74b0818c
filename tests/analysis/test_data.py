import numpy as np
import pytest
import torch
from mmengine.config import Config

from mm_graft.analysis.data import balanced, image_batches, pixels_of, training_batches


def config(count=6):
    items = [{'inputs': torch.full((3, 2, 2), index)} for index in range(count)]
    return Config({'train_dataloader': {'batch_size': 4, 'num_workers': 2, 'persistent_workers': True,
                                        'dataset': items, 'sampler': {'type': 'DefaultSampler', 'shuffle': True}}})


def test_training_batches_follow_the_seed_and_are_whole():
    first, again, other = (training_batches(config(), 5, 2, seed=seed) for seed in (0, 0, 3))
    assert len(first) == 3
    assert all(len(batch['inputs']) == 2 for batch in first)
    values = [[[int(image[0, 0, 0]) for image in batch['inputs']] for batch in run] for run in (first, again, other)]
    assert values[0] == values[1] != values[2]
    assert len(training_batches(config(), 1, 2)) == 1


def test_too_few_images_and_no_training_data_are_named():
    with pytest.raises(ValueError, match='fewer than 8 images'):
        training_batches(config(), 1, 8)
    with pytest.raises(ValueError, match='no `train_dataloader`'):
        training_batches(Config({}), 1, 1)


def test_images_come_in_rgb_at_the_chosen_indices():
    items = [{'inputs': torch.tensor([index, 0, 9]).view(3, 1, 1)} for index in range(4)]
    batches = list(image_batches(items, np.array([3, 1, 2]), to_rgb=True, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert batches[0][:, 2].flatten().tolist() == [3, 1]
    assert torch.equal(pixels_of(items[1], to_rgb=False), items[1]['inputs'])


def test_indices_are_balanced_by_class():
    labels = np.array([2, 1, 1, 2, 5, 1])
    assert balanced(labels, classes=2, per_class=2).tolist() == [1, 2, 0, 3]
