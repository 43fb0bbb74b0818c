"""Figures of the experiment: which rows stand where."""

import json

import pytest

from experiments.methods import figures
from experiments.methods.report import DOCS, RESULTS
from experiments.methods.rows import TITLES


@pytest.fixture
def results():
    """Rows that all differ: row i has 50 + i by the class token in the first seed, and two more in the second."""
    def scores(value):
        return {pool: dict.fromkeys(figures.SCORES, value - lower) for pool, lower in (('cls', 0), ('avg', 5))}

    return {'rows': {name: {'images': index, 'tflops': 2.0 * index,
                            'seeds': {'0': scores(50.0 + index), '1': scores(52.0 + index)}}
                     for index, name in enumerate(TITLES)}}


def test_the_better_pool_counts_with_the_distance_of_lowest_and_highest_seed():
    row = {'seeds': {str(seed): {'cls': {'knn': value}, 'avg': {'knn': value - 10}}
                     for seed, value in enumerate((60.0, 61.0, 65.0))}}
    assert figures.best(row, 'knn') == (62.0, ([2.0], [3.0]))


def test_every_trained_row_stands_at_its_cost(results):
    left, _ = figures.draw_costs(results).axes
    places = {container.get_label(): tuple(container.lines[0].get_xydata()[0]) for container in left.containers}
    assert places == {title: (2.0 * index, 51.0 + index) for index, title in enumerate(TITLES.values()) if index}


def test_every_choice_is_a_curve_over_its_setting(results):
    axes = figures.draw_choices(results).axes
    order = list(TITLES)
    for panel, (setting, curves) in zip(axes[len(figures.CHOICES):], figures.CHOICES.items()):
        assert panel.get_xlabel() == setting
        for container, members in zip(panel.containers, curves.values()):
            assert list(container.lines[0].get_ydata()) == [51.0 + order.index(name) for name in members.values()]


def test_a_row_that_was_not_run_is_left_out_of_its_curve(results):
    del results['rows']['graft_shorter']
    on_mae = figures.draw_choices(results).axes[0].containers[1]
    assert list(on_mae.lines[0].get_xdata()) == [480, 960]


def test_the_settings_on_the_axes_are_those_of_the_rows_on_the_page():
    found = json.loads((DOCS / RESULTS).read_text())['rows']
    on_mae, *others = figures.CHOICES.values()
    contrast = found['graft_images']['images'] - found['mae']['images']
    for curve, above in (('MAE', 0), ('graft on it', contrast)):
        for thousands, name in on_mae[curve].items():
            assert found[name]['images'] == 1000 * thousands + above, name
    members = {name for curves in (on_mae, *others) for curve in curves.values() for name in curve.values()}
    assert all(len(found[name]['seeds']) == 3 for name in members)
