import pytest
import torch

from mm_graft.evaluation.fewshot import fewshot_logreg
from mm_graft.evaluation.shots import accuracies_of_splits, summary
from mm_graft.evaluation.splits import pick_per_class
from tests.defaults import defaults
from tests.evaluation.test_protocols import planted


def test_each_split_is_drawn_from_a_seed_of_its_own_and_scored_on_all_test_images():
    train, test = planted(noise=0.5), planted(noise=0.5, seed=1)
    found = accuracies_of_splits(train, test, 4, 2, seed=5, splits=2)
    for seed, value in zip((5, 6), found):
        rows = torch.from_numpy(pick_per_class(train[1].numpy(), 2, seed))
        assert len(rows) == 8
        assert value == fewshot_logreg(train[0][rows], train[1][rows], *test, 4).accuracy


def test_more_images_a_class_are_better_and_too_many_are_refused():
    train, test = planted(noise=0.6), planted(noise=0.6, seed=1)
    one, five = (summary(accuracies_of_splits(train, test, 4, count, 0))['top1'] for count in (1, 5))
    assert one < five
    with pytest.raises(ValueError, match='fewer than per_class=51'):
        accuracies_of_splits(train, test, 4, 51, 0)


def test_there_are_three_splits_as_in_the_papers():
    assert defaults(accuracies_of_splits) == {'splits': 3}


def test_the_summary_has_mean_and_spread_in_percent():
    assert summary([0.5, 0.7]) == {'top1': pytest.approx(60), 'top1_by_split': pytest.approx([50, 70]),
                                   'std_over_splits': pytest.approx(200**0.5)}
    assert summary([0.5])['std_over_splits'] == 0
