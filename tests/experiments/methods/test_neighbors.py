import json

from experiments.methods.neighbors import WINDOW, draw, joined, logged, smooth


def write(run, start, rows):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(row) for row in rows) + '\n')


def test_an_interrupted_log_is_put_together_and_other_values_are_left_out(tmp_path):
    write(tmp_path, '20260101_000000', [{'step': 5, 'acc_neighbor_block3': 1.0},
                                        {'step': 10, 'acc_neighbor_block3': 20.0, 'loss': 1.0},
                                        {'step': 20, 'acc_neighbor_block3': 25.0, 'loss': 1.0}])
    write(tmp_path, '20260101_000100', [{'step': 20, 'acc_neighbor_block3': 30.0, 'acc_neighbor_block5': 40.0,
                                        'loss': 1.0}])
    assert logged(tmp_path / 'none', 128) == {}
    assert logged(tmp_path, 128) == {'3': [(1280, 20.0), (2560, 30.0)], '5': [(2560, 40.0)]}


def test_the_second_stage_goes_on_where_the_first_ended():
    first, second = {'3': [(100, 1.0), (200, 2.0)], '5': [(200, 3.0)]}, {'5': [(50, 4.0)]}
    assert joined([first, second]) == {'3': [(100, 1.0), (200, 2.0)], '5': [(200, 3.0), (250, 4.0)]}
    assert joined([{}, second]) == second


def test_the_picture_has_a_line_for_each_block_and_seed():
    curves = {0: {'5': [(1, 2.0), (2, 3.0)], '10': [(1, 1.0)]}, 1: {'5': [(1, 2.5)]}}
    axes = draw(curves).axes[0]
    assert [line.get_label() for line in axes.lines if not line.get_label().startswith('_')] == ['block 6', 'block 11']
    assert len(axes.lines) == 3


def test_a_point_of_a_smooth_line_is_the_mean_of_those_before_it():
    points = [(10 * index, float(index)) for index in range(WINDOW + 2)]
    middle = (WINDOW - 1) / 2
    assert smooth(points) == [(10 * (WINDOW - 1 + step), middle + step) for step in range(3)]
    assert smooth(points[:3]) == [(20, 1.0)]
