from dataclasses import replace

import pytest
import torch

from mm_graft.evaluation.linear_probe import (
    LinearProbeSettings,
    cosine_multiplier,
    hold_out,
    linear_probe,
    linear_probe_selected_on_test,
    scale_as_released,
    scale_linear_rule,
    sweep_grid,
)

QUICK = LinearProbeSettings(grid=tuple(sweep_grid((0.01, 1, 30))), epochs=10, batch_size=128)


def planted(count, wrong, classes=4, dims=8, seed=0):
    """Linearly separable features, of which the share ``wrong`` carries a label that no linear rule can know."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = 0.05 * torch.randn(count, dims, generator=generator)
    features[torch.arange(count), labels] += 1
    given = labels.clone()
    given[:round(wrong * count)] += 1
    return features, given % classes


def test_planted_features_get_their_known_linear_accuracy():
    train, test = planted(600, 0.0), planted(400, 0.25, seed=1)
    result = linear_probe(*train, *test, settings=QUICK)
    assert result.accuracy == 0.75
    assert result.selection_accuracy == 1.0
    assert result.selected_on == 'held-out training images'


def test_head_is_chosen_without_the_test_labels():
    train, (test, labels) = planted(600, 0.1), planted(200, 0.0, seed=1)
    honest = linear_probe(*train, test, labels, settings=QUICK)
    shuffled = linear_probe(*train, test, labels.roll(1), settings=QUICK)
    assert (honest.predictions == shuffled.predictions).all()
    assert (honest.base_lr, honest.weight_decay) == (shuffled.base_lr, shuffled.weight_decay)


def test_selection_on_test_images_says_so_and_is_never_worse_than_any_epoch():
    train, test = planted(300, 0.3), planted(200, 0.3, seed=1)
    habit = linear_probe_selected_on_test(*train, *test, settings=QUICK)
    assert habit.selected_on == 'test images'
    assert habit.accuracy == pytest.approx(habit.selection_accuracy)
    short = linear_probe_selected_on_test(*train, *test, settings=replace(QUICK, epochs=1))
    assert short.epoch == 1
    assert 1 <= habit.epoch <= 10


def test_held_out_rows_are_a_share_of_each_class_and_disjoint():
    labels = torch.tensor([0] * 50 + [1] * 20 + [2])
    kept, held = hold_out(labels, 0.1, torch.Generator().manual_seed(0))
    assert labels[held].bincount().tolist() == [5, 2]
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(71))
    with pytest.raises(ValueError, match='no class has two images'):
        hold_out(torch.arange(5), 0.1, torch.Generator())
    with pytest.raises(ValueError, match='held_out'):
        hold_out(labels, 1.0, torch.Generator())


def test_released_scale_is_the_linear_rule_times_the_world_size():
    assert scale_linear_rule(1.0, 4096) == 16
    assert scale_as_released(1.0, 4096, 8) == 128
    settings = replace(QUICK, world_size=8, as_released=True)
    assert settings.learning_rates() == [8 * lr for lr in QUICK.learning_rates()]


def test_schedule_starts_at_one_and_halves_at_the_middle():
    assert cosine_multiplier(0, 10) == 1
    assert cosine_multiplier(5, 10) == pytest.approx(0.5)
    assert len(sweep_grid()) == 70


@pytest.mark.parametrize('change', [
    {'seed': 1}, {'epochs': 3}, {'batch_size': 64}, {'batch_norm': True}, {'held_out': 0.4},
    {'world_size': 4, 'as_released': True},
])
def test_every_setting_matters(change):
    train, test = planted(200, 0.4), planted(300, 0.4, dims=8, seed=1)
    noisy = (train[0] + torch.randn(train[0].shape), train[1])
    base = linear_probe(*noisy, *test, settings=QUICK)
    other = linear_probe(*noisy, *test, settings=replace(QUICK, **change))
    assert (base.predictions != other.predictions).any() or base.lr != other.lr


def test_labels_outside_the_classes_are_refused():
    train, test = planted(60, 0.0), planted(60, 0.0)
    with pytest.raises(ValueError, match='outside the 3 classes'):
        linear_probe(*train, *test, num_classes=3, settings=QUICK)
