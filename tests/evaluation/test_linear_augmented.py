from dataclasses import replace

import torch

from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.image_protocols import augmented_set
from mm_graft.evaluation.linear_augmented import linear_probe_augmented, regroup


def test_rows_are_regrouped_in_order():
    batches = [(torch.arange(4.0)[:, None], torch.arange(4)), (torch.arange(4.0, 7.0)[:, None], torch.arange(4, 7))]
    for size, lengths in ((3, [3, 3, 1]), (7, [7]), (1, [1] * 7), (100, [7])):
        groups = list(regroup(batches, size))
        assert [len(labels) for _, labels in groups] == lengths
        assert torch.cat([labels for _, labels in groups]).tolist() == list(range(7))
        assert torch.cat([features for features, _ in groups])[:, 0].tolist() == list(range(7))


def test_dark_and_light_crops_are_told_apart_and_the_seed_matters(run):
    evaluation = prepare(*run)
    linear = replace(run[2].protocol.linear, epochs=6, batch_size=4)
    result = linear_probe_augmented(
        evaluation.encoder, augmented_set(evaluation), list(range(12)), evaluation.data, linear, workers=0)
    assert result.accuracy == 1
    assert result.selected_on == 'held-out training images'
    assert result.lr == result.base_lr * 4 / 256
