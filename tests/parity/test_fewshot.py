"""The few-shot classifier and the linear grid against numbers of the authors' code."""

import json

import numpy as np
import pytest
import torch

from mm_graft.equations import half_cosine
from mm_graft.evaluation.fewshot import fewshot_logreg, fit_logreg, logreg_objective, preprocess_rows
from mm_graft.evaluation.linear_probe import scale_as_released, scale_linear_rule, sweep_grid

PUBLISHED_RATES = [digit * power for power in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10) for digit in (1, 3, 5, 7, 9)]


@pytest.fixture
def reference(golden) -> dict:
    with np.load(golden / 'fewshot_logreg.npz', allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def fit(reference):
    return fewshot_logreg(
        *(reference[key] for key in ('train_features', 'train_labels', 'test_features', 'test_labels')),
        num_classes=len(reference['W']), lambda_times_n=reference['lambda_times_n'].item())


def objective(weight, reference):
    rows = preprocess_rows(reference['train_features'])
    return logreg_objective(weight, rows, reference['train_labels'], reference['lam'].item()).item()


def test_fewshot_rows_are_preprocessed_as_published(reference):
    for split in ('train', 'test'):
        expected = reference[f'preprocessed_{split}_head']
        rows = preprocess_rows(reference[f'{split}_features'])[:len(expected)]
        torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-12)


def test_fewshot_objective_at_the_given_optimum(reference):
    rows = preprocess_rows(reference['train_features'])
    value = logreg_objective(reference['W'], rows, reference['train_labels'], reference['lam'].item())
    assert value.item() == pytest.approx(reference['objective'].item(), rel=1e-12)


def test_fewshot_reaches_the_optimum_and_its_accuracy(reference):
    result = fit(reference)
    assert objective(result.weight, reference) == pytest.approx(reference['objective'].item(), rel=1e-9)
    assert result.accuracy == reference['test_accuracy'].item()
    assert (result.predictions == reference['test_predictions']).all()
    rows = preprocess_rows(reference['train_features'])
    weight = fit_logreg(rows, reference['train_labels'], len(reference['W']), reference['lam'].item())
    train = ((rows @ weight.T).argmax(1) == reference['train_labels']).double().mean()
    assert train.item() == pytest.approx(reference['train_accuracy'].item(), abs=1e-12)


def test_fewshot_agrees_with_the_published_stopping_rule(reference):
    result = fit(reference)
    assert objective(result.weight, reference) == pytest.approx(reference['cyanure_objective'].item(), rel=1e-3)
    apart = abs(result.accuracy - reference['cyanure_test_accuracy'].item()) * len(reference['test_labels'])
    assert apart <= 3 + 1e-9


def test_linear_sweep_grid_and_both_scales(golden):
    table = json.loads((golden / 'linear_sweep.json').read_text())
    grid = sweep_grid(table['base_lr_list'], table['weight_decay_list'])
    if (table['base_lr_list'], table['weight_decay_list']) == (PUBLISHED_RATES, [0, 1e-6]):
        assert grid == sweep_grid()
    assert len(grid) == table['n_classifiers'] == len(table['grid'])
    batch, world = table['total_batch'], table['world_size']
    for (base_lr, decay), row in zip(grid, table['grid'], strict=True):
        assert (base_lr, decay) == (row['base_lr'], row['weight_decay'])
        assert scale_linear_rule(base_lr, batch) == pytest.approx(row['lr_linear_rule'], rel=1e-12)
        assert scale_as_released(base_lr, batch, world) == pytest.approx(row['lr_as_released'], rel=1e-12)


def test_linear_sweep_schedule(golden):
    table = json.loads((golden / 'linear_sweep.json').read_text())
    ours = [half_cosine(epoch, table['epochs']) for epoch in range(table['epochs'])]
    assert ours == pytest.approx(table['epoch_multiplier'], rel=1e-12)
