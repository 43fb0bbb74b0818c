"""FreezeOut's config and its control: what the rows of the README's table do."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mm_graft.analysis.schedule_plot import simulate
from mm_graft.commands.configs import load_config
from mm_graft.engine.freezing.freezeout_savings import run_cost
from tests.test_overrides import LINK, parse, tables

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


BY_THE_CODE = {'param_scheduler.convention': 'vitfreeze_code', 'optim_wrapper.paramwise_cfg.custom_keys': None,
               'optim_wrapper.optimizer.weight_decay': 1e-5}  # a row of the README


def test_the_row_by_the_authors_code_warms_up_together_jumps_and_takes_decoders_along():
    cfg = tiny(FREEZEOUT, t0=0.8)
    code = load_config(str(FREEZEOUT), BY_THE_CODE)
    code.model = cfg.model
    text, run = simulate(cfg, 10), simulate(code, 10)
    # warm-up of 10 epochs, then t_i of the 90 that follow: the freezing points of the authors' logs
    assert [run.frozen_at[depth] for depth in (0, 2, 4, 10)] == pytest.approx([56.08, 62.08, 68.59, 91.30], abs=.1)
    assert [text.frozen_at[depth] for depth in (0, 2, 4, 10)] == pytest.approx([51.20, 57.87, 65.10, 90.33], abs=.11)
    stem, top = run.rates['depth 0'], run.rates['depth 12']
    assert stem[:100] == pytest.approx(top[:100])  # to the base rate, all of them
    assert (stem[99], stem[100], top[100]) == pytest.approx((0.99 * 1.6e-3, 1.6e-3 / 0.8**3, 1.6e-3))
    assert {'depth 2, global rate', 'depth 10, global rate'} <= set(text.rates)
    assert not any('global' in label for label in run.rates if label != 'depth 13')
    assert code.optim_wrapper.optimizer.weight_decay == 1e-5


@pytest.mark.parametrize(('options', 'percent'), [
    # by hand: 1 - ⅔·(1 - mean of t_1 … t_12); cubic 0.8: a mean of 0.75846
    ({}, 83.90), (BY_THE_CODE, 85.51), ({'t0': 0.5, 'param_scheduler.schedule': 'linear'}, 84.72)])
def test_the_encoders_flops_are_those_of_the_formula(options, percent):
    assert flops(FREEZEOUT, options) == pytest.approx(percent, abs=.02)


def flops(config, options):
    """Percent of the encoder's FLOPs, as `mm_graft inspect schedule` prints them."""
    cfg = load_config(str(config), options or None)
    cfg.model = tiny(config).model
    run = simulate(cfg, 100)
    return 100 * run_cost(run.frozen_at, 12, cfg.train_cfg.max_epochs).flops * cfg.train_cfg.max_epochs / 100


def test_the_flops_of_every_row_of_the_page_are_those_that_the_command_prints_for_its_override():
    page = ROOT / 'configs/freezeout/README.md'
    head, _, *body = next(table for table in tables(page) if 'FLOPs' in table[0])
    config, wrong = None, []
    for cells in body:
        row = dict(zip(head, cells, strict=True))
        config = page.parent / LINK.search(row['config'])[1] if LINK.search(row['config']) else config
        override = row['override'].strip('`')
        found = flops(config, parse(override.split()) if override else {})
        if abs(found - float(row['FLOPs'].removesuffix('%'))) > .051:
            wrong.append((row['override'], row['FLOPs'], found))
    assert wrong == []
    assert len(body) > 10


def test_the_control_stops_in_the_middle_of_the_same_schedule():
    cfg = tiny(LOCALMIM, end=100)
    cfg.train_cfg.max_epochs = 83
    control, whole = simulate(cfg, 4), simulate(tiny(LOCALMIM), 4)
    rates = control.rates['stage 1']
    assert rates == pytest.approx(whole.rates['stage 1'][:len(rates)])
    assert (control.length.total, whole.length.total) == (83 * 4, 100 * 4)
