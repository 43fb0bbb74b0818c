from dataclasses import replace

import pytest
import torch

from mm_graft.evaluation.attentive_fusion import (
    RATES,
    AttentiveFusion,
    Fitted,
    accuracy,
    choose,
    fit,
    run_attentive_fusion,
)
from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.linear_probe import LinearProbeSettings
from tests.evaluation.test_protocols import planted

SETTINGS = LinearProbeSettings(epochs=30, batch_size=64)


def tokens(useful, seed=0):
    """Four tokens of noise, one of which says the class."""
    features, labels = planted(seed=seed)
    noise = torch.randn(200, 4, 8, generator=torch.Generator().manual_seed(5 + seed))
    noise[:, useful] = 3 * features
    return noise, labels


def test_scores_are_what_the_equation_says():
    torch.manual_seed(0)
    model = AttentiveFusion(8, 3, num_heads=2).double().eval()
    x = torch.randn(5, 4, 8).double()
    query, key, value = (layer(norm(part)) for layer, norm, part in (
        (model.to_query, model.norm_query, model.query), (model.to_key, model.norm_key, x),
        (model.to_value, model.norm_value, x)))
    fused = []
    for head in range(2):
        cut = slice(8 * head, 8 * head + 8)  # d = 2 · 8 / 2
        weights = (query[..., cut] @ key[..., cut].transpose(1, 2) / 8**0.5).softmax(-1)  # (5, 1, 4)
        torch.testing.assert_close(model.attention(x)[:, head], weights[:, 0])
        fused.append((weights @ value[..., cut])[:, 0])
    expected = model.classifier(model.norm(model.proj(torch.cat(fused, 1))))
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(x.flip(1)), expected)  # attention has no order


def test_the_number_of_heads_divides_the_width():
    assert [AttentiveFusion(dims, 2).num_heads for dims in (16, 12, 7)] == [8, 6, 7]


def test_queries_keys_and_values_have_no_shift_and_the_constants_are_theirs():
    model = AttentiveFusion(16, 2)
    assert [layer.bias for layer in (model.to_query, model.to_key, model.to_value)] == [None] * 3
    assert model.num_heads == 8
    assert model.query.std().item() == pytest.approx(0.02, rel=0.6)
    assert RATES == (1e-4, 1e-3, 1e-2)


def test_the_learning_rate_falls_along_half_a_cosine_and_weights_decay(monkeypatch):
    seen = []
    original = torch.optim.AdamW.step

    def step(self):
        seen.append((self.param_groups[0]['lr'], self.param_groups[0]['weight_decay']))
        return original(self)

    monkeypatch.setattr(torch.optim.AdamW, 'step', step)
    x, labels = tokens(0)
    fit(x[:65], labels[:65], 4, 0.1, replace(SETTINGS, epochs=4))  # an image that is left over alone is no batch
    assert [lr for lr, _ in seen] == pytest.approx([0.1, 0.05 * (1 + 0.5**0.5), 0.05, 0.05 * (1 - 0.5**0.5)])
    assert {decay for _, decay in seen} == {0.01}


@pytest.mark.parametrize('useful', [0, 3])
def test_attention_finds_the_token_that_says_the_class(useful):
    x, labels = tokens(useful)
    model = fit(x, labels, 4, 1e-2, SETTINGS)
    assert accuracy(model, *tokens(useful, seed=1)) > 0.9
    with torch.no_grad():
        assert model.attention(x).mean((0, 1)).argmax() == useful


def test_the_rate_is_chosen_on_held_out_images_and_the_seed_decides_the_rest():
    x, labels = tokens(2)
    chosen = choose(x, labels, 4, replace(SETTINGS, epochs=5))
    assert chosen.lr == 1e-2  # five epochs are too few for smaller ones
    again = choose(x, labels, 4, replace(SETTINGS, epochs=5))
    assert torch.equal(chosen.model.query, again.model.query)
    other = choose(x, labels, 4, replace(SETTINGS, epochs=5, seed=1))
    assert not torch.equal(chosen.model.query, other.model.query)


def test_it_reports_where_the_attention_goes(run):
    cfg, checkpoint, settings = run
    result = run_attentive_fusion(prepare(cfg, checkpoint, settings))
    assert len(result['attention_by_block']) == 4
    assert sum(result['attention_by_block']) == pytest.approx(1, abs=1e-5)
    assert 0 <= result['top1'] <= 100
    assert 0 <= result['selection_top1'] <= 100


def test_every_seed_is_fitted_anew_and_scores_are_in_percent(run, monkeypatch):
    cfg, checkpoint, settings = run
    seeds, model = [], AttentiveFusion(16, 2).eval()
    shares = torch.arange(8.0).expand(12, 8, 8)  # of class token and mean, block by block
    monkeypatch.setattr(model, 'attention', lambda tokens: shares)

    def chosen(train, labels, num_classes, linear):
        seeds.append(linear.seed)
        assert train.shape[1:] == (8, 16)  # class token and mean of four blocks
        return Fitted(model, 1e-3, 0.75)

    monkeypatch.setattr('mm_graft.evaluation.attentive_fusion.choose', chosen)
    settings = replace(settings, protocol=replace(settings.protocol, seeds=2))
    result = run_attentive_fusion(prepare(cfg, checkpoint, settings))
    assert seeds == [settings.protocol.linear.seed, settings.protocol.linear.seed + 1]
    assert (result['selection_top1'], result['base_lr']) == (75.0, 1e-3)
    assert result['attention_by_block'] == [1, 5, 9, 13]


def test_many_images_are_scored_in_parts(monkeypatch):
    x, labels = tokens(0)
    model = fit(x, labels, 4, 1e-3, replace(SETTINGS, epochs=1))
    whole = accuracy(model, x, labels)
    monkeypatch.setattr('mm_graft.evaluation.attentive_fusion.ROWS', 7)
    assert accuracy(model, x, labels) == whole
