import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mm_graft.evaluation.fewshot import fewshot_logreg, fit_logreg, logreg_objective, preprocess_rows


def clouds(count, classes=4, dims=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, dims, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(count) % classes
    return centers[labels] + 1.5 * torch.randn(count, dims, generator=generator) + 2, labels


def test_rows_are_centered_each_on_its_own_and_have_length_one():
    rows = preprocess_rows(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 8.0]]))
    assert torch.allclose(rows[0], torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) / 2 ** 0.5)
    assert torch.allclose(rows[1], torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64) / 6 ** 0.5)


def test_objective_of_zero_weights_is_the_entropy_of_guessing():
    rows, labels = preprocess_rows(clouds(8)[0]), clouds(8)[1]
    value = logreg_objective(torch.zeros(4, 10, dtype=torch.float64), rows, labels, lam=0.3)
    assert value == pytest.approx(torch.tensor(4.0, dtype=torch.float64).log())
    ones = logreg_objective(torch.ones(4, 10, dtype=torch.float64), rows, labels, lam=0.3)
    assert ones == pytest.approx(value + 0.15 * 40)  # equal scores again, plus (λ/2) ‖W‖²


@pytest.mark.parametrize(('count', 'classes', 'dims'), [(80, 4, 10), (12, 4, 30), (40, 2, 10), (12, 2, 30), (60, 3, 5)])
def test_the_gradient_of_the_objective_vanishes_at_the_optimum(count, classes, dims):
    features, labels = clouds(count, classes, dims)
    rows = preprocess_rows(features)
    for lam in (0.00025 / count, 1e-2):
        weight = fit_logreg(rows, labels, classes, lam).requires_grad_()
        assert weight.shape == (classes, dims)
        logreg_objective(weight, rows, labels, lam).backward()
        assert weight.grad.abs().max() < 1e-8


def test_the_optimum_is_reached_where_features_differ_in_scale():
    features, labels = clouds(80)
    rows = features.double() * torch.logspace(0, -2, 10).double()
    weight = fit_logreg(rows, labels, 4, 1e-6).requires_grad_()
    logreg_objective(weight, rows, labels, 1e-6).backward()
    assert weight.grad.abs().max() < 1e-6  # scikit-learn's usual hundred iterations leave 3e-3


def test_the_recipe_is_scikit_learns_with_c_4000_for_every_number_of_rows():
    for count in (40, 120):
        features, labels = clouds(count)
        reference = LogisticRegression(C=4000, fit_intercept=False, tol=1e-10, max_iter=5000)
        reference.fit(preprocess_rows(features).numpy(), labels.numpy())
        test, test_labels = clouds(200, seed=3)
        found = fewshot_logreg(features, labels, test, test_labels)
        torch.testing.assert_close(found.weight, torch.from_numpy(reference.coef_), rtol=1e-4, atol=1e-4)
        assert found.accuracy == reference.score(preprocess_rows(test).numpy(), test_labels.numpy())


def test_accuracy_is_the_share_of_the_test_labels_and_not_of_the_training_labels():
    features, labels = clouds(40)
    test, test_labels = clouds(60, seed=3)
    found = fewshot_logreg(features, labels, test, test_labels)
    assert found.accuracy == (found.predictions == test_labels).double().mean()
    wrong = fewshot_logreg(features, labels, test, (found.predictions + 1) % 4)
    assert wrong.accuracy == 0
    assert fewshot_logreg(features, labels, features, labels).accuracy > found.accuracy


def test_stronger_penalty_shrinks_the_weights():
    features, labels = clouds(40)
    weak = fewshot_logreg(features, labels, features, labels)
    strong = fewshot_logreg(features, labels, features, labels, lambda_times_n=1.0)
    assert strong.weight.norm() < weak.weight.norm()


@pytest.mark.parametrize(('change', 'message'), [
    ({'num_classes': 5}, r'1 of 5 classes have no training image: \[4\]'),
    ({'lambda_times_n': 0.0}, 'lambda_times_n=0.0 is not positive'), ({'num_classes': 3}, 'outside the 3 classes')])
def test_what_cannot_be_fitted_is_named(change, message):
    features, labels = clouds(40)
    with pytest.raises(ValueError, match=message):
        fewshot_logreg(features, labels, features, labels, **change)


def test_class_without_a_training_image_is_named():
    features, labels = clouds(40)
    with pytest.raises(ValueError, match=r'1 of 4 classes have no training image: \[2\]'):
        fewshot_logreg(features[labels != 2], labels[labels != 2], features, labels)
    with pytest.raises(ValueError, match=r"have no training image: \['c'\]"):
        fewshot_logreg(features[labels != 2], labels[labels != 2], features, labels, classes='abcd')
