from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.linear_dinov2 import (
    BASE_RATES,
    MomentumSweep,
    inputs_of,
    probe,
    run_linear_dinov2,
    train_heads,
)
from mm_graft.evaluation.linear_probe import LinearProbeSettings
from mm_graft.evaluation.protocols import FrozenData
from tests.evaluation.test_protocols import planted

SETTINGS = LinearProbeSettings(epochs=20, batch_size=64)


def test_a_step_is_that_of_pytorchs_sgd_with_momentum():
    features, labels = planted(count=40)
    rates = [0.3, 0.01]
    sweep = MomentumSweep(8, 4, rates, [0.0, 0.0], generator=torch.Generator().manual_seed(0))
    heads = [nn.Linear(8, 4) for _ in rates]
    for index, head in enumerate(heads):
        head.weight.data.copy_(sweep.weight[:, index::2].T)
        nn.init.zeros_(head.bias)
    optimizers = [torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9) for head, rate in zip(heads, rates)]
    for multiplier in (1.0, 0.5, 0.25):
        sweep.step(features, labels, multiplier)
        for head, optimizer, rate in zip(heads, optimizers, rates):
            optimizer.param_groups[0]['lr'] = rate * multiplier
            optimizer.zero_grad()
            F.cross_entropy(head(features), labels).backward()
            optimizer.step()
    for index, head in enumerate(heads):
        torch.testing.assert_close(sweep.weight[:, index::2].T, head.weight.data)
        torch.testing.assert_close(sweep.bias[index::2], head.bias.data)


def test_the_four_kinds_of_features_are_cut_out_of_five():
    features = torch.arange(10.)[None].expand(2, 10)  # five vectors of width 2
    assert {name: part[0].tolist() for name, part in inputs_of(features).items()} == {
        'class token': [6, 7], 'class token and patches': [6, 7, 8, 9],
        'four class tokens': [0, 1, 2, 3, 4, 5, 6, 7], 'four class tokens and patches': list(range(10))}


def test_rates_follow_the_batch_and_the_cosine_ends_at_zero():
    features, labels = planted()
    sweep = train_heads(features, labels, 4, replace(SETTINGS, epochs=1, batch_size=128))
    assert sweep.lr[:13].tolist() == pytest.approx([rate / 2 for rate in BASE_RATES])
    multipliers = []
    original = MomentumSweep.step
    MomentumSweep.step = lambda self, x, y, multiplier: multipliers.append(multiplier)
    try:
        train_heads(features, labels, 4, replace(SETTINGS, epochs=2, batch_size=100))
    finally:
        MomentumSweep.step = original
    assert multipliers == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


def test_the_rates_are_dinov2s():
    rates = [digit * 10.0**power for power in (-5, -4, -3, -2) for digit in (1, 2, 5)]
    assert pytest.approx([*rates, 0.1]) == list(BASE_RATES)


def where_the_class_is(part):
    """Five vectors of noise, one of which says the class."""
    sets = []
    for seed in (0, 1):
        useful, labels = planted(seed=seed)
        noise = torch.randn(200, 5, 8, generator=torch.Generator().manual_seed(10 + seed))
        noise[:, part] = 5 * useful
        order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))  # labels of their own in each set
        sets += [noise.flatten(1)[order], labels[order]]
    return FrozenData(*sets, 4)


@pytest.mark.parametrize(('part', 'blind'), [(0, 'class token and patches'), (4, 'four class tokens')])
def test_the_kind_of_features_that_says_the_class_is_chosen(part, blind):
    result = probe(where_the_class_is(part), SETTINGS, select_on_test=False)
    assert result['accuracy'] > 0.9
    assert result['by_features'][blind] < 0.5
    assert result['features'] != blind
    assert result['base_lr'] in BASE_RATES


@pytest.mark.parametrize(('select_on_test', 'rows'), [(True, 200), (False, 180)])
def test_training_images_are_held_out_only_to_choose_by_them(select_on_test, rows, monkeypatch):
    seen = []
    monkeypatch.setattr('mm_graft.evaluation.linear_dinov2.train_heads', lambda features, labels, classes, settings: (
        seen.append(len(labels)) or train_heads(features, labels, classes, replace(settings, epochs=1))))
    probe(where_the_class_is(0), replace(SETTINGS, held_out=0.1), select_on_test)
    assert seen == [rows] * 4


def test_it_reports_every_kind_and_on_what_the_head_was_chosen(run, monkeypatch):
    cfg, checkpoint, settings = run
    linear = replace(settings.protocol.linear, epochs=3)
    settings = replace(settings, protocol=replace(settings.protocol, linear=linear, seeds=2))
    result = run_linear_dinov2(prepare(cfg, checkpoint, settings))
    assert len(result['top1_by_features']) == 4
    assert result['heads'] == 52
    assert len(result['top1_by_seed']) == 2
    seeds = []
    monkeypatch.setattr('mm_graft.evaluation.linear_dinov2.probe', lambda data, settings, select_on_test: (
        seeds.append((settings.seed, select_on_test)) or {
            'accuracy': 0.5, 'selection': 0.25, 'base_lr': 0.1, 'features': 'class token', 'by_features': {'a': 0.75}}))
    counted = run_linear_dinov2(prepare(cfg, checkpoint, settings))
    assert seeds == [(linear.seed, False), (linear.seed + 1, False)]
    assert (counted['top1'], counted['selection_top1'], counted['top1_by_features']) == (50.0, 25.0, {'a': 75.0})
    monkeypatch.undo()
    assert result['selected_on'] == 'held-out training images'
    chosen = replace(settings, protocol=replace(settings.protocol, select_on_test=True))
    on_test = run_linear_dinov2(prepare(cfg, checkpoint, chosen))
    assert on_test['selected_on'] == 'test images'
    assert on_test['top1_by_seed'][0] == pytest.approx(max(on_test['top1_by_features'].values()))
