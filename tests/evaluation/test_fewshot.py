import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mm_graft.evaluation.fewshot import fewshot_logreg, fit_logreg, logreg_objective, preprocess_rows


def clouds(count, classes=4, dims=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dims, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(count) % classes
    return centres[labels] + 1.5 * torch.randn(count, dims, generator=generator) + 2, labels


def test_rows_are_centred_each_on_its_own_and_have_length_one():
    rows = preprocess_rows(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 8.0]]))
    assert torch.allclose(rows[0], torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) / 2 ** 0.5)
    assert torch.allclose(rows[1], torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64) / 6 ** 0.5)


def test_objective_of_zero_weights_is_the_entropy_of_guessing():
    rows, labels = preprocess_rows(clouds(8)[0]), clouds(8)[1]
    value = logreg_objective(torch.zeros(4, 10, dtype=torch.float64), rows, labels, lam=0.3)
    assert value == pytest.approx(torch.tensor(4.0, dtype=torch.float64).log())
    ones = logreg_objective(torch.ones(4, 10, dtype=torch.float64), rows, labels, lam=0.3)
    assert ones == pytest.approx(value + 0.15 * 40)  # equal scores again, plus (λ/2) ‖W‖²


@pytest.mark.parametrize(('count', 'dims'), [(80, 10), (12, 30)])
def test_optimum_is_that_of_scikit_learn(count, dims):
    features, labels = clouds(count, dims=dims)
    rows = preprocess_rows(features)
    weight = fit_logreg(rows, labels, 4, lam=0.00025 / count)
    reference = LogisticRegression(C=4000, fit_intercept=False, tol=1e-10, max_iter=5000)
    reference.fit(rows.numpy(), labels.numpy())
    ours = logreg_objective(weight, rows, labels, 0.00025 / count)
    theirs = logreg_objective(torch.from_numpy(reference.coef_), rows, labels, 0.00025 / count)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-7)
    test, test_labels = clouds(200, dims=dims, seed=3)
    accuracy = fewshot_logreg(features, labels, test, test_labels).accuracy
    assert accuracy == reference.score(preprocess_rows(test).numpy(), test_labels.numpy())


def test_gradient_vanishes_at_the_optimum():
    features, labels = clouds(40)
    rows = preprocess_rows(features)
    weight = fit_logreg(rows, labels, 4, lam=1e-3).requires_grad_()
    logreg_objective(weight, rows, labels, 1e-3).backward()
    assert weight.grad.abs().max() < 1e-9


def test_stronger_penalty_shrinks_the_weights():
    features, labels = clouds(40)
    weak = fewshot_logreg(features, labels, features, labels)
    strong = fewshot_logreg(features, labels, features, labels, lambda_times_n=1.0)
    assert strong.weight.norm() < weak.weight.norm()


def test_class_without_a_training_image_is_named():
    features, labels = clouds(40)
    with pytest.raises(ValueError, match=r'1 of 4 classes have no training image: \[2\]'):
        fewshot_logreg(features[labels != 2], labels[labels != 2], features, labels)
