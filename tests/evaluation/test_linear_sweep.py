import pytest
import torch
from torch.nn import functional as F

from mm_graft.evaluation.linear_sweep import LinearSweep

FEATURES, LABELS = torch.randn(32, 6, generator=torch.Generator().manual_seed(3)), torch.arange(32) % 3


def sweep(**changes):
    settings = {'lrs': [0.1, 1.0], 'weight_decays': [0.0, 0.01], 'generator': torch.Generator().manual_seed(0)}
    return LinearSweep(6, 3, **{**settings, **changes})


@pytest.mark.parametrize('head', [0, 1])
def test_steps_equal_those_of_torch_sgd_on_one_head(head):
    ours = sweep()
    linear = torch.nn.Linear(6, 3)
    with torch.no_grad():
        linear.weight.copy_(ours.weight[:, head::2].T)
        linear.bias.zero_()
    optimizer = torch.optim.SGD(linear.parameters(), lr=[0.1, 1.0][head], weight_decay=[0.0, 0.01][head])
    for multiplier in (1.0, 0.5, 0.25):
        ours.step(FEATURES, LABELS, multiplier)
        optimizer.param_groups[0]['lr'] = [0.1, 1.0][head] * multiplier
        optimizer.zero_grad()
        F.cross_entropy(linear(FEATURES), LABELS).backward()
        optimizer.step()
    torch.testing.assert_close(ours.weight[:, head::2].T, linear.weight.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.bias[head::2], linear.bias.detach(), rtol=1e-5, atol=1e-6)


def test_initial_weights_are_small_and_normal_and_biases_zero():
    many = LinearSweep(200, 10, [0.1] * 5, [0.0] * 5)
    assert many.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (many.bias == 0).all()


def test_batch_norm_makes_heads_blind_to_the_features_scale():
    small, large = sweep(batch_norm=True), sweep(batch_norm=True)
    for _ in range(20):
        small.step(FEATURES, LABELS)
        large.step(100 * FEATURES, LABELS)
    torch.testing.assert_close(small.weight, large.weight, rtol=1e-3, atol=1e-4)
    plain = sweep()
    plain.step(FEATURES, LABELS)
    assert not torch.allclose(plain.weight, small.weight)


def test_without_batch_norm_no_statistics_are_kept_or_used():
    ours = sweep()
    for _ in range(3):
        ours.step(FEATURES, LABELS)
    assert (ours.running_mean == 0).all()
    assert (ours.running_var == 1).all()
    before = ours.accuracies(FEATURES, LABELS), ours.predict(FEATURES, 0)
    ours.running_mean.fill_(9.0)
    assert torch.equal(ours.accuracies(FEATURES, LABELS), before[0])
    assert torch.equal(ours.predict(FEATURES, 0), before[1])


@pytest.mark.parametrize('scale', [1, 1e-3])  # of variance as small as epsilon
def test_batch_norm_is_that_of_maes_linear_probe(scale):
    ours, theirs = sweep(batch_norm=True), torch.nn.BatchNorm1d(6, affine=False, eps=1e-6)
    plain = sweep()
    for _ in range(3):
        ours.step(scale * FEATURES, LABELS)
        plain.step(theirs(scale * FEATURES), LABELS)
    torch.testing.assert_close(ours.weight, plain.weight)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert torch.equal(ours.predict(scale * FEATURES, 1), plain.predict(theirs.eval()(scale * FEATURES), 1))
    torch.testing.assert_close(ours.accuracies(scale * FEATURES, LABELS),
                               plain.accuracies(theirs(scale * FEATURES), LABELS))


@pytest.mark.parametrize('features', [16, 7])
def test_a_head_begins_alike_whatever_stands_beside_it(features):
    many, one = (LinearSweep(features, 3, [0.1] * count, [0.0] * count, generator=torch.Generator().manual_seed(0))
                 for count in (4, 1))
    assert torch.equal(many.weight[:, ::4], one.weight)


def test_accuracies_and_predictions_speak_of_the_same_head():
    ours = sweep()
    for _ in range(5):
        ours.step(FEATURES, LABELS)
    accuracies = ours.accuracies(FEATURES, LABELS)
    for head in range(2):
        assert accuracies[head] == (ours.predict(FEATURES, head) == LABELS).float().mean()


def test_diverged_head_counts_as_wrong_and_leaves_the_others_alone():
    ours, alone = sweep(lrs=[0.1, float('inf')]), sweep()
    for _ in range(3):
        ours.step(FEATURES, LABELS)
        alone.step(FEATURES, LABELS)
    assert ours.accuracies(FEATURES, LABELS)[1] == 0
    torch.testing.assert_close(ours.weight[:, ::2], alone.weight[:, ::2])


def test_rates_and_decays_must_pair():
    for lrs, decays in (([0.1], [0.0, 0.01]), ([], [])):
        with pytest.raises(ValueError, match='one each a head'):
            sweep(lrs=lrs, weight_decays=decays)


def test_batch_norm_uses_running_statistics_when_it_scores_and_none_of_a_single_row():
    ours = sweep(batch_norm=True)
    ours.step(FEATURES, LABELS)
    mean, var = 0.1 * FEATURES.mean(0), 0.9 + 0.1 * FEATURES.var(0)  # from 0 and 1, at momentum 0.1
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, var)
    scores = (FEATURES - mean) / (var + 1e-6).sqrt() @ ours.weight[:, ::2] + ours.bias[::2]
    assert torch.equal(ours.predict(FEATURES, 0), scores.argmax(1))
    ours.step(FEATURES[:1], LABELS[:1])
    torch.testing.assert_close(ours.running_mean, mean)


def test_many_rows_are_scored_in_parts(monkeypatch):
    ours = sweep()
    whole = ours.accuracies(FEATURES, LABELS), ours.predict(FEATURES, 1)
    monkeypatch.setattr('mm_graft.evaluation.linear_sweep.ROWS', 5)
    torch.testing.assert_close(ours.accuracies(FEATURES, LABELS), whole[0])
    assert torch.equal(ours.predict(FEATURES, 1), whole[1])
