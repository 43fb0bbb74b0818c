import json
import sys

import pytest

from experiments.continuing import demo
from experiments.continuing.images import NEW, OLD


def scores(new, old):
    return {NEW: {'class token': new, 'patch mean': new - 1}, OLD: {'class token': old, 'patch mean': old - 1}}


@pytest.fixture
def trained(monkeypatch):
    """Trainings that only write checkpoints, and scores that fall with the steps if all layers train."""
    runs = []

    def train(row, options):
        runs.append(row.rule)
        row.folder.mkdir()
        for step in demo.STEPS:
            (row.folder / f'iter_{step}.pth').touch()

    def score_file(path, domains, part):
        step = int(path.stem.removeprefix('iter_')) if 'iter' in path.stem else 0
        return scores(40 - step, 70 - step) if 'one_rate' in str(path) else scores(40 + step / 10, 70)

    monkeypatch.setattr(demo.Row, 'train', train)
    monkeypatch.setattr(demo, 'score_file', score_file)
    monkeypatch.setattr(demo, 'prepare', lambda own: {})
    return runs


def test_the_demo_draws_what_two_rules_gain_and_forget(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['demo', '--out', str(tmp_path)])
    demo.main()
    curves = json.loads((tmp_path / 'report.json').read_text())['curves']
    assert [(point['images'], point[OLD]['class token']) for point in curves['one_rate']] == [
        (0, 70), (480, 55), (960, 40), (1440, 25)]
    assert curves['frozen'][-1][NEW]['patch mean'] == 43.5
    rows = [line.split('|')[1:-1] for line in (tmp_path / 'report.md').read_text().splitlines() if line[:1] == '|'][2:]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ['public weights', '40.0', '39.0', '70.0', '69.0'],
        ['all layers at one rate', '-5.0', '-6.0', '25.0', '24.0'],
        ['lower two thirds frozen', '44.5', '43.5', '70.0', '69.0']]
    assert (tmp_path / 'report.png').read_bytes().startswith(b'\x89PNG')
    assert not list(tmp_path.rglob('*.pth'))
    assert 'lower two thirds frozen' in capsys.readouterr().out


def test_what_is_done_is_not_done_again(tmp_path, trained):
    start = scores(40, 70)
    first = demo.curve('frozen', tmp_path, start, {})
    assert demo.curve('frozen', tmp_path, start, {}) == first
    assert trained == ['frozen']
