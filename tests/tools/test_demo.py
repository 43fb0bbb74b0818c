"""The demo's bookkeeping and report; the demo itself is `make demo`."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = ['random weights', 'MAE', 'MoCo v3', 'graft']
ROWS = [{'method': method, 'knn': 60.0 + index, 'linear': 70.0 + index, 'fewshot_1': 50.0 + index,
         'fewshot_1_draws': [50.0 + index]} for index, method in enumerate(METHODS)]


@pytest.fixture
def demo(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import demo
    monkeypatch.setattr(demo, 'OUT', tmp_path)
    yield demo
    for name in ('demo', 'demo_report', 'demo_evaluate', 'training_log'):
        sys.modules.pop(name, None)


def write_scalars(run, start, losses):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    rows = [{'step': step, 'loss': loss, 'stage1_lr': 1e-4, 'stage2_lr': 1e-4, 'stage3_lr': 1e-3}
            for step, loss in losses.items()]
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(row) for row in rows) + '\n')


def test_seconds_add_up_over_interruptions(demo):
    demo.remember('mae', 10.0)
    demo.remember('mae', 5.0)
    demo.remember('graft', 1.0)
    assert demo.remembered_seconds() == {'mae': 15.0, 'graft': 1.0}


def test_a_finished_run_is_not_trained_again(demo, tmp_path, monkeypatch):
    (tmp_path / 'mae').mkdir()
    (tmp_path / 'mae' / 'last_checkpoint').write_text('somewhere/epoch_1000.pth')
    monkeypatch.setattr(demo, 'run_training', lambda *args, **kwargs: pytest.fail('trained again'))
    demo.train('mae', seed=0)
    assert demo.last_epoch(tmp_path / 'mae') == 1000
    assert demo.last_epoch(tmp_path / 'graft') == 0


def test_an_interrupted_log_is_put_together(demo, tmp_path):
    import demo_report
    write_scalars(tmp_path / 'mae', '20260101_000000', {1: 0.9, 2: 0.8, 3: 0.7})
    write_scalars(tmp_path / 'mae', '20260101_000100', {3: 0.6, 4: 0.5})
    assert [(row['step'], row['loss']) for row in demo_report.read_scalars(tmp_path / 'mae')] == [
        (1, 0.9), (2, 0.8), (3, 0.6), (4, 0.5)]


def test_the_report_holds_the_promised_keys_and_a_picture(demo, tmp_path, capsys):
    import demo_report
    for run in ('mae', 'mocov3', 'graft'):
        write_scalars(tmp_path / run, '20260101_000000', {1: 0.9, 2: 0.8})
    demo_report.write_report(tmp_path, ROWS, {'mae': 60.0, 'graft': 30.0}, seed=3)
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [row['method'] for row in report['rows']] == METHODS
    assert {'knn', 'linear', 'fewshot_1'} <= set(report['rows'][0])
    assert report['seconds'] == 90.0
    assert report['device']
    assert 'torch' in report['versions']
    assert (tmp_path / 'report.png').read_bytes()[:4] == b'\x89PNG'
    assert '| graft |' in (tmp_path / 'report.md').read_text()
    assert '| graft |' in capsys.readouterr().out
