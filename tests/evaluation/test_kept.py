import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mm_graft.evaluation import kept
from mm_graft.evaluation.kept import compare_kept, draw_changes
from mm_graft.evaluation.report import write_json


def evaluated(folder, checkpoint, **top1):
    write_json(folder / 'report.json', {'checkpoint': checkpoint, 'protocols': {
        name: {'top1': value, 'interval95': [value - 2, value + 1]} for name, value in top1.items()}})
    return folder


@pytest.fixture
def runs(tmp_path):
    """Start, all layers, stages: on new and on old images."""
    values = {'start': (40.0, 70.0), 'all': (48.0, 61.0), 'stages': (46.0, 70.5)}
    return [[evaluated(tmp_path / domain / name, f'{name}.pth', knn=pair[index]) for name, pair in values.items()]
            for index, domain in enumerate(('new', 'old'))]


def test_changes_are_counted_from_the_first_run(runs, tmp_path):
    rows = [line.split() for line in compare_kept(*runs, tmp_path / 'kept.png').splitlines()]
    assert rows[0] == ['run', 'protocol', 'new', 'change', 'old', 'change']
    assert rows[2:] == [['start', 'knn', '40.00', '70.00'],
                        ['all', 'knn', '48.00', '+8.00', '61.00', '-9.00'],
                        ['stages', 'knn', '46.00', '+6.00', '70.50', '+0.50']]
    assert (tmp_path / 'kept.png').read_bytes().startswith(b'\x89PNG')


def test_each_protocol_that_all_have_has_rows_of_its_own(tmp_path):
    one = [evaluated(tmp_path / f'new{index}', 'a', knn=1.0, linear=2.0 + index, fewshot=0.0) for index in (0, 1)]
    other = [evaluated(tmp_path / f'old{index}', 'a', linear=4.0 - index, knn=1.0) for index in (0, 1)]
    rows = [line.split() for line in compare_kept(one, other, tmp_path / 'kept.png').splitlines()[2:]]
    assert [row[:2] for row in rows] == [['new0', 'knn'], ['new1', 'knn'], ['new0', 'linear'], ['new1', 'linear']]
    assert rows[3][2:] == ['3.00', '+1.00', '3.00', '-1.00']
    with pytest.raises(ValueError, match='no protocol'):
        compare_kept(one, [evaluated(tmp_path / f'odd{index}', 'a', other=1.0) for index in (0, 1)])


def test_lists_that_do_not_fit_each_other_are_refused(runs):
    new, old = runs
    with pytest.raises(ValueError, match='3 runs on new images and 2 on old'):
        compare_kept(new, old[:2])
    with pytest.raises(ValueError, match='1 runs on new images'):
        compare_kept(new[:1], old[:1])
    with pytest.raises(ValueError, match=r'all is of all\.pth, its counterpart on the old images of stages\.pth'):
        compare_kept(new, [old[0], old[2], old[1]])


def test_the_mean_of_the_seeds_is_the_large_point():
    axes = Figure().subplots()
    draw_changes(axes, {'one': [(1.0, -1.0), (3.0, -2.0)], 'two': [(5.0, 0.0)]})
    large = {points.get_label(): points.get_offsets().tolist() for points in axes.collections
             if not points.get_label().startswith('_')}
    assert large == {'one': [[2.0, -1.5]], 'two': [[5.0, 0.0]]}
    assert len(axes.collections) == 3  # and the seeds of the first


def test_points_and_intervals_stand_at_the_changes_of_their_run_new_to_the_right_and_old_upwards(runs, monkeypatch):
    figures = []
    monkeypatch.setattr(kept, 'save_figure', lambda figure, path: figures.append((figure, path)))
    compare_kept(*runs, 'kept.png')
    (figure, path), = figures
    axes, = figure.axes
    assert (path, axes.get_title()) == ('kept.png', 'knn')
    assert axes.get_xlabel().startswith('new images')
    assert axes.get_ylabel().startswith('old images')
    points = {mark.get_label(): mark.get_offsets().tolist() for mark in axes.collections if mark.get_label()[0] != '_'}
    assert points == {'all': [[8, -9]], 'stages': [[6, 0.5]]}  # the start is the cross
    spans = [segment.tolist() for mark in axes.containers for bars in mark.lines[2] for segment in bars.get_segments()]
    assert spans == [[[6, -9], [9, -9]], [[8, -11], [8, -8]], [[4, 0.5], [7, 0.5]], [[6, -1.5], [6, 1.5]]]
    lines = [line.get_xydata().tolist() for line in axes.lines]
    assert [[0, 0], [1, 0]] in lines
    assert [[0, 0], [0, 1]] in lines
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['all', 'stages']


def test_a_run_without_points_keeps_its_color_and_the_eleventh_has_another_mark():
    axes = Figure().subplots()
    draw_changes(axes, {f'run {index}': [(1.0, index)] if index != 1 else [] for index in range(11)})
    marks = {mark.get_label(): mark for mark in axes.collections}
    assert 'run 1' not in marks
    assert to_hex(marks['run 2'].get_facecolor()[0]) == to_hex('C2')
    assert to_hex(marks['run 10'].get_facecolor()[0]) == to_hex('C0') == to_hex(marks['run 0'].get_facecolor()[0])
    first, last = (marks[f'run {index}'].get_paths()[0].vertices for index in (0, 10))
    assert first.shape != last.shape or not (first == last).all()
