"""The optimizer of the published configs, parameter by parameter, against the authors' full-size models."""

import json
from pathlib import Path

import pytest

from mm_graft.analysis.param_table import build_on_meta, parameter_table
from mm_graft.commands.configs import load_config

PUBLISHED = [(batch, 1.0, [1.5e-5, 1.5e-5, 1.5e-4]) for batch in (4096, 2080)]
CONFIGS = Path(__file__).parents[2] / 'configs' / 'graft'


@pytest.mark.parametrize('size', ['b', 'l'])
def test_every_parameter_is_treated_as_by_the_authors(golden, size):
    golden_table = json.loads((golden / f'graft_lr_table_vit_{size}.json').read_text())
    cfg = load_config(str(CONFIGS / f'vit-{size}_mae2mocov3.py'))
    meta = golden_table['meta']
    cfg.model.backbone.stop_grad_conv1 = meta['stop_grad_patch_embed']
    cfg.optim_wrapper.optimizer.lr = max(meta['lr_layer_wise']) * meta['lr_factor']
    cfg.optim_wrapper.optimizer.weight_decay = meta['weight_decay']
    cfg.optim_wrapper.paramwise_cfg.stage_lr_mult = [m / max(meta['lr_layer_wise']) for m in meta['lr_layer_wise']]
    ours = {row['name']: row for row in parameter_table(*build_on_meta(cfg))}
    assert set(ours) == {row['mmpretrain'] for row in golden_table['parameters']}
    for expected in golden_table['parameters']:
        row = ours[expected['mmpretrain']]
        assert row['trained'] == expected['in_optimizer'], row
        assert row['stage'] == expected['stage'], row
        if expected['in_optimizer']:
            assert row['lr'] == pytest.approx(expected['peak_lr'], rel=1e-12), row
            assert row['weight_decay'] == pytest.approx(expected['weight_decay'], rel=1e-12), row
        else:
            assert row['lr'] is row['weight_decay'] is None, row


@pytest.mark.parametrize('size', ['b', 'l'])
def test_the_config_itself_has_the_published_rates(golden, size):
    golden_table = json.loads((golden / f'graft_lr_table_vit_{size}.json').read_text())
    meta = golden_table['meta']
    if (meta['total_batch'], meta['lr'], meta['lr_layer_wise']) not in PUBLISHED:
        pytest.skip('the file is of another setting than the published one')
    ours = {row['name']: row for row in
            parameter_table(*build_on_meta(load_config(str(CONFIGS / f'vit-{size}_mae2mocov3.py'))))}
    for expected in golden_table['parameters']:
        if expected['in_optimizer']:
            assert ours[expected['mmpretrain']]['lr'] == pytest.approx(expected['peak_lr'], rel=1e-12)
