"""FreezeOut's configs: that they build, differ in what their names say, and are all in README and metafile."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load

from mm_graft.analysis.schedule_plot import simulate

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs' / 'freezeout').glob('*.py'))
FREEZING = [path for path in CONFIGS if 'freezeout-t' in path.name]


def tiny(path):
    cfg = Config.fromfile(path)
    arch = {'embed_dims': 16, 'num_layers': 12, 'num_heads': 2, 'feedforward_channels': 16}
    cfg.model.backbone.arch, cfg.model.neck.in_channels = arch, 16
    return cfg


@pytest.mark.parametrize('path', FREEZING, ids=lambda path: path.stem[:30])
def test_each_freezes_when_its_name_says(path):
    cfg = tiny(path)
    t0, rates = int(path.name.partition('-t')[2][:3]) / 100, path.name.partition('-t')[2].split('_')[0][4:]
    run = simulate(cfg, iters_per_epoch=4)
    assert run.frozen_at[0] == pytest.approx(100 * t0**3, abs=.3)
    assert sorted(run.frozen_at) == list(range(12))
    peak = 1.6e-3 / t0**3 if rates == 'scaled' else 1.6e-3
    assert max(run.rates['depth 0']) == pytest.approx(peak, rel=1e-3)
    assert max(run.rates['depth 2, global rate']) == pytest.approx(1.6e-3, rel=1e-3)


def test_the_control_stops_in_the_middle_of_the_same_schedule():
    control = simulate(tiny(next(path for path in CONFIGS if 'stopped-early' in path.name)), 4)
    whole = simulate(tiny(ROOT / 'configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py'), 4)
    rates = control.rates['stage 1']
    assert rates == pytest.approx(whole.rates['stage 1'][:len(rates)])
    assert (control.length.total, whole.length.total) == (83 * 4, 100 * 4)


def test_readme_and_metafile_have_every_config():
    readme = (ROOT / 'configs/freezeout/README.md').read_text()
    models = load(ROOT / 'configs/freezeout/metafile.yml')['Models']
    assert sorted(model['Config'] for model in models) == [f'configs/freezeout/{path.name}' for path in CONFIGS]
    assert all(f'({path.name})' in readme for path in CONFIGS)
    assert len(FREEZING) == 5
