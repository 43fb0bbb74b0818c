from dataclasses import replace

import pytest
import torch

from mm_graft.evaluation.linear_probe import (
    LinearProbeSettings,
    _train,
    hold_out,
    linear_probe,
    linear_probe_selected_on_test,
    scale_as_released,
    scale_linear_rule,
    sweep_grid,
)
from mm_graft.evaluation.linear_sweep import LinearSweep

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
    assert habit.accuracy == max(linear_probe_selected_on_test(
        *train, *test, settings=replace(QUICK, grid=(head, ))).accuracy for head in QUICK.grid)
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
    assert labels[hold_out(labels, 0.99, torch.Generator())[1]].bincount().tolist() == [49, 19]  # never all
    assert labels[hold_out(labels, 1e-9, torch.Generator())[1]].bincount().tolist() == [1, 1]
    first, second = (hold_out(labels, 0.1, torch.Generator().manual_seed(seed))[1].tolist() for seed in (0, 1))
    assert first != second


def test_released_scale_is_the_linear_rule_times_the_world_size():
    assert scale_linear_rule(1.0, 4096) == 16
    assert scale_as_released(1.0, 4096, 8) == 128
    settings = replace(QUICK, world_size=8, as_released=True)
    assert settings.learning_rates() == [8 * lr for lr in QUICK.learning_rates()]


def test_the_grid_is_the_authors():
    grid = sweep_grid()
    assert len(grid) == 70
    assert [rate for rate, _ in grid] == sorted(rate for rate, _ in grid)
    assert [grid[0], grid[1], grid[3], grid[-1]] == [(1e-5, 0), (1e-5, 1e-6), (pytest.approx(3e-5), 1e-6), (90, 1e-6)]
    assert sweep_grid((2, 3), (0.5, )) == [(2, 0.5), (3, 0.5)]


def test_the_rate_of_an_epoch_follows_half_a_cosine_from_one():
    seen = []

    class Spy(LinearSweep):
        def step(self, features, labels, multiplier=1.0):
            seen.append((len(labels), multiplier))
            super().step(features, labels, multiplier)

    train, settings = planted(10, 0.0), replace(QUICK, epochs=2, batch_size=4)
    spy = Spy(8, 4, settings.learning_rates(), [0.0] * len(settings.grid))
    ends = list(_train(spy, *train, torch.arange(10), settings))
    assert ends == [1, 2]
    assert seen == [(4, 1), (4, 1), (2, 1), (4, 0.5), (4, 0.5), (2, 0.5)]


def test_the_held_out_rows_are_not_trained_on():
    train, test = planted(80, 0.0), planted(40, 0.0, seed=1)
    _, held = hold_out(train[1], QUICK.held_out, torch.Generator().manual_seed(QUICK.seed))
    changed = train[0].clone()
    changed[held] = 1e6 * torch.randn(len(held), 8)  # would blow up every head
    assert torch.equal(linear_probe(changed, train[1], *test, settings=replace(QUICK, grid=((1, 0), ))).predictions,
                       linear_probe(*train, *test, settings=replace(QUICK, grid=((1, 0), ))).predictions)


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


@pytest.mark.parametrize(('change', 'word'), [
    ({'epochs': 0}, 'epochs=0'), ({'batch_size': 0}, 'batch_size=0'), ({'held_out': 0.0}, 'held_out=0.0'),
    ({'held_out': 1.0}, 'held_out=1.0')])
def test_settings_that_cannot_be_are_named(change, word):
    with pytest.raises(ValueError, match=word):
        replace(QUICK, **change)
    replace(QUICK, epochs=1, batch_size=1)
