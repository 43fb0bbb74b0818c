import pytest

from mm_graft.evaluation.compare import compare
from mm_graft.evaluation.report import write_json


def report(top1, images=10, **linear):
    return {'protocols': {'linear': {'top1': top1, 'interval95': [top1 - 1, top1 + 1], **linear}},
            'data': {'test': {'root': 'x', 'images': images}}}


def test_runs_stand_side_by_side_and_the_plot_appears(tmp_path):
    write_json(tmp_path / 'mae' / 'report.json', report(60.0))
    write_json(tmp_path / 'graft' / 'report.json', report(70.0))
    text = compare([tmp_path / 'mae', tmp_path / 'graft' / 'report.json'], tmp_path / 'plot.png')
    assert [line.split() for line in text.splitlines()][2:] == [['mae', '60.00'], ['graft', '70.00']]
    assert (tmp_path / 'plot.png').stat().st_size > 0


def test_numbers_that_do_not_compare_are_marked(tmp_path):
    write_json(tmp_path / 'a' / 'report.json', report(60.0))
    write_json(tmp_path / 'b' / 'report.json', report(70.0, images=20, selected_on='test images'))
    text = compare([tmp_path / 'a', tmp_path / 'b'])
    assert 'different test sets' in text
    assert 'b chose its linear head on the test images' in text


def test_folder_without_report_is_named(tmp_path):
    with pytest.raises(ValueError, match='finished'):
        compare([tmp_path])
