import json

from mmengine.config import Config

from experiments import costs


def test_operations_are_counted_once_for_a_label_with_the_overrides_and_kept(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(costs, 'gflops_of_run', lambda cfg: counted.append(dict(cfg)) or 2.5)
    cache = tmp_path / 'gflops.json'
    for _ in range(2):
        cfg = Config({'rates': [1, 1], 'kind': 'plain'})
        assert costs.gflops_per_image('frozen', cfg, ('rates=[0,1]', 'kind=other'), cache) == 2.5
    assert counted == [{'rates': [0, 1], 'kind': 'other'}]
    assert json.loads(cache.read_text()) == {'frozen': 2.5}
