"""The three FreezeOut conventions against the rates and freezing points of the authors' formulas."""

import json

import numpy as np
import pytest

from mm_graft.engine.schedulers.freezeout import (
    CONVENTIONS,
    freeze_ratios,
    freeze_step,
    layer_rate,
)
from mm_graft.engine.schedulers.warmup_cosine import warmup_cosine

NAMES = {'original_freezeout': 'brock', 'vitfreeze_code': 'vitfreeze_code', 'paper': 'vitfreeze_paper'}
MODES = [('original_freezeout', 'scaled'), ('original_freezeout', 'unscaled'), ('vitfreeze_code', 'scaled'),
         ('vitfreeze_code', 'unscaled_layerwise'), ('vitfreeze_code', 'non_layerwise'), ('paper', 'scaled'),
         ('paper', 'unscaled')]


class Reference:
    """The golden file, and the same numbers computed here."""

    def __init__(self, path):
        self.data = np.load(path / 'freezeout_schedules.npz', allow_pickle=False)
        config = json.loads(str(self.data['config_json']))
        self.total = int(self.data['total_iterations'])
        self.warmup = int(self.data['warmup_iterations'])
        self.base_lr, self.min_lr = float(self.data['base_lr']), float(self.data['min_lr'])
        self.num_blocks = len(self.data['layer_index']) - 1
        self.iterations = [int(step) for step in self.data['iterations']]
        assert self.total == config['epochs'] * config['iters']

    def cases(self):
        for i, t0 in enumerate(self.data['t0']):
            for j, how in enumerate(self.data['how']):
                yield (i, j), freeze_ratios(float(t0), str(how), self.num_blocks)

    def warmup_of(self, name):
        return 0 if name == 'original_freezeout' else self.warmup

    def global_lr(self, step):
        return self.base_lr * warmup_cosine(step, self.warmup, self.total, self.min_lr / self.base_lr)


@pytest.fixture
def reference(golden):
    return Reference(golden)


def test_freezeout_ratios(reference):
    for case, ratios in reference.cases():
        np.testing.assert_allclose(ratios, reference.data['ratio'][case], rtol=1e-12)


@pytest.mark.parametrize(('name', 'mode'), MODES)
def test_freezeout_freezing_points(reference, name, mode):
    wanted, warmup = reference.data[f'{name}/{mode}/freeze_iter'], reference.warmup_of(name)
    for case, ratios in reference.cases():
        for layer, ratio in enumerate(ratios):
            step = freeze_step(CONVENTIONS[NAMES[name]], ratio, reference.total, warmup)
            slack = int(reference.data['near_integer_freeze_point'][case][layer])
            assert abs((-1 if step is None else step) - wanted[case][layer]) <= slack


@pytest.mark.parametrize(('name', 'mode'), MODES)
def test_freezeout_rates(reference, name, mode):
    wanted, warmup = reference.data[f'{name}/{mode}/lr'], reference.warmup_of(name)
    convention = CONVENTIONS[NAMES[name]]
    for case, ratios in reference.cases():
        for layer, ratio in enumerate(ratios):
            limit = convention.limit(ratio, reference.total, warmup)
            for sample, step in enumerate(reference.iterations):
                if reference.data['near_integer_freeze_point'][case][layer] and abs(step - limit) <= 1:
                    continue
                if mode == 'non_layerwise':
                    rate = reference.global_lr(step) if step <= limit else 0.
                else:
                    peak = 1 / ratio if mode == 'scaled' else 1.
                    rate = reference.base_lr * layer_rate(convention, step, ratio, peak, reference.total, warmup)
                assert abs(rate - wanted[case][layer, sample]) <= 1e-9 * reference.base_lr, (case, layer, step)


@pytest.mark.parametrize('mode', ['scaled', 'unscaled_layerwise', 'non_layerwise'])
def test_freezeout_what_belongs_to_no_layer_follows_the_global_cosine(reference, mode):
    wanted = reference.data[f'vitfreeze_code/{mode}/cls_token_lr']
    for case, _ in reference.cases():
        rates = [reference.global_lr(step) for step in reference.iterations]
        np.testing.assert_allclose(rates, wanted[case], rtol=0, atol=1e-9 * reference.base_lr)


def test_freezeout_decoders_die_with_their_tap(reference):
    taps = [2, 4, reference.num_blocks - 2, reference.num_blocks]  # of the grids 56, 28, 14, 7
    wanted = reference.data['vitfreeze_code/scaled/decoder_drop_iter']
    for case, ratios in reference.cases():
        for index, tap in enumerate(taps):
            step = freeze_step(CONVENTIONS['vitfreeze_code'], ratios[tap], reference.total, reference.warmup)
            slack = int(reference.data['near_integer_freeze_point'][case][tap])
            assert abs((-1 if step is None else step) - wanted[case][index]) <= slack
