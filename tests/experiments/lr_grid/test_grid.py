import numpy as np
import pytest

from experiments.lr_grid.grid import draw_grid, grid_points, score_table


def test_the_papers_grid_has_27_points_and_an_all_frozen_one_is_left_out():
    points = grid_points([0.01, 0.1, 1.0])
    assert len(set(points)) == 27
    assert points[0] == (1.0, 1.0, 1.0)
    assert points[1] == (1.0, 0.1, 1.0)
    assert points[9][2] == 0.1
    assert (0, 0, 0) not in grid_points([0, 1])
    for wrong in ([1.0], [1.0, 1.0], [-1, 1]):
        with pytest.raises(ValueError, match='make no grid'):
            grid_points(wrong)


def test_rows_are_the_first_stage_and_columns_the_second():
    table = score_table({(0.1, 1, 1): 3.0, (1, 1, 0.1): 4.0}, [0.1, 1], third=1)
    np.testing.assert_array_equal(table, [[np.nan, 3.0], [np.nan, np.nan]])


def test_every_rate_of_the_third_stage_is_a_panel_even_when_runs_are_missing():
    figure = draw_grid({(0.1, 1, 1): 3.0}, [0.1, 1], 'knn')
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ['third stage × 1', 'third stage × 0.1']
    assert [text.get_text() for text in panels[0].texts] == ['3.0']
    with pytest.raises(ValueError, match='no run of the grid has a score for knn'):
        draw_grid({}, [0.1, 1], 'knn')
