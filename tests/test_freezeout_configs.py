"""FreezeOut's config and its control: what the rows of the README's table do."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mm_graft.analysis.schedule_plot import simulate

ROOT = Path(__file__).parents[1]
FREEZEOUT = ROOT / 'configs/freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k.py'
LOCALMIM = ROOT / 'configs/localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py'


def tiny(path, **changes):
    cfg = Config.fromfile(path)
    cfg.param_scheduler.update(changes)
    arch = {'embed_dims': 16, 'num_layers': 12, 'num_heads': 2, 'feedforward_channels': 16}
    cfg.model.backbone.arch, cfg.model.neck.in_channels = arch, 16
    return cfg


@pytest.mark.parametrize(('t0', 'rates'), [(0.5, 'scaled'), (0.65, 'scaled'), (0.8, 'scaled'), (0.8, 'unscaled'),
                                           (0.9, 'scaled')])
def test_layers_freeze_when_t0_says_and_start_at_the_rate_that_it_says(t0, rates):
    run = simulate(tiny(FREEZEOUT, t0=t0, lr_scaling=rates), iters_per_epoch=4)
    assert run.frozen_at[0] == pytest.approx(100 * t0**3, abs=.3)
    assert sorted(run.frozen_at) == list(range(12))
    peak = 1.6e-3 / t0**3 if rates == 'scaled' else 1.6e-3
    assert max(run.rates['depth 0']) == pytest.approx(peak, rel=1e-3)
    assert max(run.rates['depth 2, global rate']) == pytest.approx(1.6e-3, rel=1e-3)


def test_the_control_stops_in_the_middle_of_the_same_schedule():
    cfg = tiny(LOCALMIM, end=100)
    cfg.train_cfg.max_epochs = 83
    control, whole = simulate(cfg, 4), simulate(tiny(LOCALMIM), 4)
    rates = control.rates['stage 1']
    assert rates == pytest.approx(whole.rates['stage 1'][:len(rates)])
    assert (control.length.total, whole.length.total) == (83 * 4, 100 * 4)
