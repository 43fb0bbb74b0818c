import json

import pytest

from mm_graft.evaluation import report as report_module
from mm_graft.evaluation.report import (
    compare,
    compare_table,
    plot_report,
    plot_reports,
    read_report,
    report_table,
    run_names,
    table,
    write_json,
)

REPORT = {'checkpoint': 'a.pth', 'protocols': {
    'knn': {'top1': 50.0, 'interval95': [45.0, 55.0], 'k': 20, 'top1_by_k': {'20': 50.0, '10': 49.0}},
    'linear': {'top1': 60.125, 'interval95': [55.0, 65.0], 'selected_on': 'test images'}}}


def test_report_is_read_back_from_its_folder(tmp_path):
    write_json(tmp_path / 'run' / 'report.json', REPORT)
    assert read_report(tmp_path / 'run') == read_report(tmp_path / 'run' / 'report.json') == REPORT
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['report.json']


def test_a_result_is_written_with_its_folder(tmp_path):
    for result in ({'a': 1}, [{'a': 1}, {'a': 2}], {'a': 'Größe'}):
        write_json(tmp_path / 'new' / 'result.json', result)
        assert json.loads((tmp_path / 'new' / 'result.json').read_text()) == result
    assert 'Größe' in (tmp_path / 'new' / 'result.json').read_text()  # for people to read


def test_what_is_no_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'no report\.json'):
        read_report(tmp_path)
    (tmp_path / 'report.json').write_text('{"protocols": ')
    with pytest.raises(ValueError, match='not JSON'):
        read_report(tmp_path)
    (tmp_path / 'report.json').write_text(json.dumps({'rows': []}))
    with pytest.raises(ValueError, match='no "protocols"'):
        read_report(tmp_path)
    for result in (5, {}, {'top1': 5}, {'top1': 'x', 'interval95': [1, 2]}, {'top1': 5, 'interval95': [1]}, ['top1'],
                   {'top1': 5, 'interval95': 3}, {'top1': 5, 'interval95': [1, 'x']}, None):
        (tmp_path / 'report.json').write_text(json.dumps({'protocols': {'knn': result}}))
        with pytest.raises(ValueError, match=r"report.json: the protocol 'knn' has no \"top1\""):
            read_report(tmp_path)


def test_failed_write_leaves_the_old_report(tmp_path):
    write_json(tmp_path / 'report.json', REPORT)
    with pytest.raises(TypeError):
        write_json(tmp_path / 'report.json', {'protocols': object()})
    assert read_report(tmp_path) == REPORT


def test_tables_show_accuracy_interval_and_how_it_was_reached():
    lines = report_table(REPORT).splitlines()
    assert lines[2].split() == ['knn', '50.00', '45.00', '–', '55.00', 'k', '20']
    assert 'selected on test images' in lines[3]
    assert table([('a', 'b'), ('long', 'x')]).splitlines()[0] == 'a     b'


def test_comparison_has_a_column_for_every_protocol_of_any_run():
    other = {'protocols': {'fewshot-1': {'top1': 10.0, 'interval95': [1, 20]}}}
    lines = [line.split() for line in compare_table({'one': REPORT, 'two': other}).splitlines()]
    assert lines[0] == ['run', 'knn', 'linear', 'fewshot-1']
    assert lines[2] == ['one', '50.00', '60.12', '–']
    assert lines[3] == ['two', '–', '–', '10.00']


def test_plots_are_written_for_one_and_for_several_runs(tmp_path):
    plot_report(REPORT, tmp_path / 'one.png')
    plot_reports({'a': REPORT, 'b': REPORT}, tmp_path / 'deep' / 'two.png')
    for name in ('one.png', 'deep/two.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


def scored(top1, images=10, **linear):
    return {'protocols': {'linear': {'top1': top1, 'interval95': [top1 - 1, top1 + 1], **linear}},
            'data': {'test': {'root': 'x', 'images': images}}}


def test_runs_stand_side_by_side_and_the_plot_appears(tmp_path):
    write_json(tmp_path / 'mae' / 'report.json', scored(60.0))
    write_json(tmp_path / 'graft' / 'report.json', scored(70.0))
    text = compare([tmp_path / 'mae', tmp_path / 'graft' / 'report.json'], tmp_path / 'plot.png')
    assert [line.split() for line in text.splitlines()][2:] == [['mae', '60.00'], ['graft', '70.00']]
    assert (tmp_path / 'plot.png').stat().st_size > 0


def test_numbers_that_do_not_compare_are_marked(tmp_path):
    write_json(tmp_path / 'a' / 'report.json', scored(60.0))
    write_json(tmp_path / 'b' / 'report.json', scored(70.0, images=20, selected_on='test images'))
    text = compare([tmp_path / 'a', tmp_path / 'b'])
    assert [line.split(':')[0] for line in text.splitlines()[-2:]] == ['note', 'note']  # below the table
    assert 'different test sets' in text
    assert 'b chose its linear head on the test images' in text


def test_folder_without_report_is_named(tmp_path):
    with pytest.raises(ValueError, match='finished'):
        compare([tmp_path])


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(report_module, 'save_figure', lambda figure, path: figures.append((figure, path)))
    return figures


def test_bars_of_the_runs_stand_side_by_side_about_their_protocol_with_their_intervals(drawn):
    other = {'protocols': {'linear': {'top1': 70.0, 'interval95': [68.0, 71.0]}}}
    plot_reports({'a': REPORT, 'b': other}, 'two.png')
    (figure, path), = drawn
    bars, curves = figure.axes
    assert path == 'two.png'
    assert [label.get_text() for label in bars.get_xticklabels()] == ['knn', 'linear']
    found = {}
    for container in (part for part in bars.containers if part.get_label() in 'ab'):
        segments = container.errorbar.lines[2][0].get_segments()
        found[container.get_label()] = [
            (bar.get_x() + bar.get_width() / 2, bar.get_height(), *segment[:, 1])
            for bar, segment in zip(container, segments, strict=True)]
    assert found['a'] == [pytest.approx((-0.2, 50, 45, 55)), pytest.approx((0.8, 60.125, 55, 65))]
    assert found['b'] == [pytest.approx((1.2, 70, 68, 71))]
    line, = curves.lines
    assert (line.get_label(), line.get_xydata().tolist()) == ('a', [[10, 49], [20, 50]])
    assert [curves.get_xscale(), curves.get_xlabel(), curves.get_ylabel()] == ['log', 'k', 'kNN top-1 accuracy, %']
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ['a', 'b']


def test_the_only_run_has_the_name_of_its_weights(drawn):
    plot_report({**REPORT, 'checkpoint': 'runs/one/a.pth'}, 'one.png')
    assert [text.get_text() for text in drawn[0][0].axes[0].get_legend().get_texts()] == ['a.pth']
    bar = drawn[0][0].axes[0].patches[0]
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(0)


def test_folders_of_one_name_are_told_apart_by_their_paths():
    assert run_names(['x/a', 'y/b/report.json']) == ['a', 'b']
    assert run_names(['x/a', 'y/a/report.json']) == ['x/a', 'y/a/report.json']


def test_equal_numbers_of_images_in_other_folders_are_other_test_sets(tmp_path):
    for name in 'ab':
        report = scored(60.0)
        report['data']['test']['root'] = name
        write_json(tmp_path / name / 'report.json', report)
    assert 'different test sets' in compare([tmp_path / 'a', tmp_path / 'b'])
    assert 'different' not in compare([tmp_path / 'a', tmp_path / 'a' / 'report.json'])
