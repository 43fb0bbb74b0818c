import json

import pytest

from experiments.continuing import report
from experiments.continuing.images import NEW, OLD


def scores(new, old, **more):
    return {**more, NEW: {'class token': new, 'patch mean': new - 1}, OLD: {'class token': old, 'patch mean': old - 1}}


@pytest.fixture
def out(tmp_path):
    """Scores of two rules, one of them with two seeds, and a page to write to."""
    rows = [scores(20, 50, rule='one_rate', rate=1e-3, seed=0, cpu_seconds=60),
            scores(24, 54, rule='one_rate', rate=1e-3, seed=1, cpu_seconds=120),
            scores(45, 60, rule='frozen', rate=1e-4, seed=0, cpu_seconds=30)]
    for row in rows:
        (tmp_path / f'row_{row["rule"]}_{row["rate"]:g}_{row["seed"]}.json').write_text(json.dumps(row))
    (tmp_path / 'row_start.json').write_text(json.dumps(scores(40, 70, rule='start')))
    for folder in ('images', 'results'):
        (tmp_path / 'docs' / folder).mkdir(parents=True)
    (tmp_path / 'docs' / 'continue.md').write_text(
        'before\n<!-- table of python -m experiments.continuing -->\nold\n<!-- end -->\nafter\n')
    return tmp_path


def test_the_page_is_made_of_the_committed_file_alone(out):
    results = report.collect(out, out / 'docs')
    assert [(row['rule'], row['seed']) for row in results['rows']] == [('one_rate', 0), ('one_rate', 1), ('frozen', 0)]
    for path in out.glob('row_*'):
        path.unlink()
    report.write_report(out / 'docs')
    page = (out / 'docs' / 'continue.md').read_text()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in page.splitlines() if line[:1] == '|'][2:]
    assert rows == [
        ['public weights', '', '', '40.0', '39.0', '70.0', '69.0', ''],
        ['all layers at one rate', '0.001', '2', '22.0 ± 2.8', '21.0 ± 2.8', '52.0 ± 2.8', '51.0 ± 2.8', '1.5'],
        ['lower two thirds frozen', '0.0001', '1', '45.0', '44.0', '60.0', '59.0', '0.5']]
    assert page.startswith('before\n')
    assert page.endswith('<!-- end -->\nafter\n')
    assert 'old\n' not in page
    report.write_report(out / 'docs')  # there is still a place for it
    assert (out / 'docs' / 'continue.md').read_text() == page
    assert (out / 'docs' / 'images' / 'continue.png').read_bytes().startswith(b'\x89PNG')


def test_a_page_without_a_place_is_an_error(out):
    report.collect(out, out / 'docs')
    (out / 'docs' / 'continue.md').write_text('nothing')
    with pytest.raises(ValueError, match='0 places for the table'):
        report.write_report(out / 'docs')


def test_points_are_changes_of_one_pool_and_slower_rates_are_named(out):
    panels = report.draw(report.collect(out, out / 'docs')).axes
    assert [axes.get_title() for axes in panels] == [
        'class token, learning rate 0.001', 'patch mean, learning rate 0.001']
    large = [{points.get_label(): points.get_offsets().tolist() for points in axes.collections
              if not points.get_label().startswith('_')} for axes in panels]
    assert large == 2 * [{'all layers at one rate': [[-18.0, -18.0]],
                          'lower two thirds frozen, rate 0.0001': [[5.0, -10.0]]}]


def test_each_pool_has_its_own_points(out):
    results = report.collect(out, out / 'docs')
    results['rows'][2][NEW]['patch mean'] += 7
    large = [points.get_offsets().tolist() for axes in report.draw(results).axes for points in axes.collections
             if 'frozen' in points.get_label()]
    assert large == [[[5.0, -10.0]], [[12.0, -10.0]]]
