"""The demo's bookkeeping and report; the demo itself is `make demo`."""

import json

import pytest

from experiments.demo import __main__ as demo
from experiments.demo import report

METHODS = ['random weights', 'MAE', 'MoCo v3', 'graft']
ROWS = [{'method': method, 'knn': 60.0 + index, 'linear': 70.0 + index, 'fewshot_1': 50.0 + index,
         'fewshot_1_draws': [50.0 + index]} for index, method in enumerate(METHODS)]


@pytest.fixture(autouse=True)
def _out(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, 'OUT', tmp_path)


def write_scalars(run, start, losses):
    folder = run / start / 'vis_data'
    folder.mkdir(parents=True)
    rows = [{'step': step, 'loss': loss, 'stage1_lr': 1e-4, 'stage2_lr': 1e-4, 'stage3_lr': 1e-3}
            for step, loss in losses.items()]
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(row) for row in rows) + '\n')


def test_seconds_add_up_over_interruptions():
    demo.add_seconds('mae', 10.0)
    demo.add_seconds('mae', 5.0)
    demo.add_seconds('graft', 1.0)
    assert demo.read_seconds() == {'mae': 15.0, 'graft': 1.0}


def test_a_folder_belongs_to_a_demo_of_the_same_settings(monkeypatch):
    demo.keep_to_settings(0, None)
    demo.keep_to_settings(0, None)
    with pytest.raises(ValueError, match=r'other settings \(seed 0 → 1\); move it away'):
        demo.keep_to_settings(1, None)
    with pytest.raises(ValueError, match='epochs None → 3'):
        demo.keep_to_settings(0, 3)
    monkeypatch.setattr(demo, 'RUNS', {'mae': 'MAE'})
    with pytest.raises(ValueError, match='configs '):
        demo.keep_to_settings(0, None)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    (tmp_path / 'mae').mkdir()
    (tmp_path / 'mae' / 'last_checkpoint').write_text('somewhere/epoch_1000.pth')
    monkeypatch.setattr(demo, 'run_training', lambda *args, **kwargs: pytest.fail('trained again'))
    demo.train('mae', seed=0)
    assert demo.last_epoch(tmp_path / 'mae') == 1000
    assert demo.last_epoch(tmp_path / 'graft') == 0


def test_the_report_holds_the_promised_keys_and_a_picture(tmp_path, capsys):
    for run in ('mae', 'mocov3', 'graft'):
        write_scalars(tmp_path / run, '20260101_000000', {1: 0.9, 2: 0.8})
        (tmp_path / run / 'last_checkpoint').write_text('epoch_7.pth' if run == 'mae' else 'epoch_2.pth')
    report.write_report(tmp_path, ROWS, {'mae': 60.0, 'graft': 30.0}, seed=3)
    written = json.loads((tmp_path / 'report.json').read_text())
    assert [row['method'] for row in written['rows']] == METHODS
    assert {'knn', 'linear', 'fewshot_1'} <= set(written['rows'][0])
    assert written['seconds'] == 90.0
    assert written['device']
    assert written['images_seen']['graft'] == '70k MAE + 20k MoCo v3'
    assert 'torch' in written['versions']
    assert (tmp_path / 'report.png').read_bytes()[:4] == b'\x89PNG'
    assert '| graft |' in (tmp_path / 'report.md').read_text()
    assert '| graft |' in capsys.readouterr().out
