import json

from experiments.refiner import rows


def test_operations_are_counted_once_and_kept(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(rows, 'TrainingStep', lambda cfg, batch_size: counted.append(cfg.model.type) or cfg)
    monkeypatch.setattr(rows, 'count', lambda step: {'gflops_per_image': 2.5})
    assert rows.gflops('refined', tmp_path) == rows.gflops('refined', tmp_path) == 2.5
    assert counted == ['mm_graft.MIMRefiner']
    assert json.loads((tmp_path / 'gflops.json').read_text()) == {'refined': 2.5}
