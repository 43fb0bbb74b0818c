import pytest
from matplotlib.figure import Figure

from mm_graft.analysis.layers import draw_layers, propose


def curve(*knn):
    return {'knn': list(knn), 'linear': [value + 1 for value in knn], 'rankme': [5.0] * len(knn)}


def test_where_the_last_blocks_fall_each_of_them_gets_a_head():
    found = propose({'class token': curve(10, 20, 40, 70, 75, 72, 68, 60)})
    assert found.best_block == 5
    assert found.out_indices == [4, 5, 6, 7]
    assert found.graft_depth == 5
    assert found.freeze_first == 3  # 70 is the first of at least 42.5
    assert found.freeze_order == [0, 1, 2, 3, 4, 5]
    assert '15.0 points below' in found.reason


def test_where_they_do_not_the_last_block_gets_the_only_head():
    found = propose({'class token': curve(10, 30, 50, 69.5, 70, 69.5)})
    assert found.out_indices == [5]
    assert 'one head' in found.reason
    assert propose({'class token': curve(10, 30, 50, 69.5, 71, 69.5)}).out_indices == [4, 5]


def test_a_fall_of_one_point_is_clear_and_the_words_say_so():
    found = propose({'class token': curve(10, 40, 39)})
    assert found.out_indices == [1, 2]
    assert '1.0 points below: heads on all of them' in found.reason
    assert 'one head' in propose({'class token': curve(10, 40, 39.001)}).reason


def test_half_of_the_rise_is_enough_and_of_equal_blocks_the_first_is_the_best():
    found = propose({'class token': curve(10, 25, 40, 40)})
    assert (found.freeze_first, found.best_block, found.graft_depth) == (1, 3, 3)
    assert 'best at block 3 of 4 (40.0 %)' in found.reason
    assert 'half of its rise is done after block 1' in found.reason


def test_a_curve_that_rises_to_the_end_leaves_the_last_block_above_the_graft():
    found = propose({'class token': curve(10, 20, 30, 40)})
    assert (found.best_block, found.graft_depth, found.out_indices) == (4, 3, [3])
    assert found.freeze_first == 2


def test_a_curve_that_only_falls_freezes_nothing():
    found = propose({'class token': curve(40, 30, 20)})
    assert (found.best_block, found.graft_depth, found.freeze_first, found.out_indices) == (1, 1, 0, [0, 1, 2])


def test_the_better_pool_is_followed():
    found = propose({'class token': curve(10, 20, 15), 'mean of patches': curve(10, 15, 25)})
    assert found.pool == 'mean of patches'
    assert found.best_block == 3


@pytest.mark.parametrize(('best', 'count', 'taps'), [(20, 24, [20, 21, 22, 23]), (3, 4, [3]),
                                                     (10, 24, [10, 12, 14, 16, 17, 19, 21, 23])])
def test_at_most_eight_heads_are_spread_evenly_with_both_ends(best, count, taps):
    knn = [10.0] * best + [40.0] + [20.0] * (count - best - 1)
    assert propose({'class token': curve(*knn)}).out_indices == taps


def found_labels(found):
    return (f'{label}, {pool}' for label, curves in found.items() for pool in curves)


def test_the_picture_has_a_line_for_each_pool_and_rings_at_the_heads():
    found = {'MAE': {'class token': curve(10, 40, 30), 'mean of patches': curve(10, 20, 25)},
             'graft': {'class token': curve(10, 20, 30)}}
    proposals = {label: propose(curves) for label, curves in found.items()}
    figure = draw_layers(found, proposals)
    assert isinstance(figure, Figure)
    knn, linear, rankme = figure.axes
    lines = {line.get_label(): line for line in knn.lines}
    assert list(lines['MAE, class token'].get_ydata()) == [10, 40, 30]
    assert list(lines['MAE, mean of patches'].get_xdata()) == [1, 2, 3]
    rings = [line for line in knn.lines if line.get_marker() == 'o']
    assert [list(ring.get_xdata()) for ring in rings] == [[2, 3], [3]]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ('block', 'kNN top-1 accuracy, %'), ('block', 'linear top-1 accuracy, %'), ('block', 'RankMe')]
    assert list({line.get_label(): line for line in linear.lines}['graft, class token'].get_ydata()) == [11, 21, 31]
    rings = [line.get_xydata().tolist() for line in linear.lines if line.get_marker() == 'o']
    assert rings == [[[2, 41], [3, 31]], [[3, 31]]]
    borders = [line.get_xdata()[0] for line in rankme.lines if list(line.get_ydata()) == [0, 1]]
    assert borders == [2.5, 2.5]  # above the blocks that the graft keeps
    assert all(tick == int(tick) for axes in figure.axes for tick in axes.get_xticks())
    assert [text.get_text() for text in rankme.get_legend().get_texts()] == list(found_labels(found))
    assert len({line.get_linestyle() for label, line in lines.items() if label.startswith('MAE')}) == 2
