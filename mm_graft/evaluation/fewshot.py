"""Few-shot logistic regression on frozen features, as Layer Grafted Pre-training evaluates with 1 % of the labels.

With x_i the i-th row (D features), centered by *its own* mean over the features and then scaled to length 1, for n rows
and C classes, W (C, D) minimizes

    f(W) = (1/n) Σ_i CE(W x_i, y_i) + (λ/2) ‖W‖²,   λ = 0.00025 / n,   no intercept.

This is scikit-learn's ``LogisticRegression(C=4000, fit_intercept=False)``: C = 1/(n λ) for every n. The authors solve
it with the library cyanure and stop at a tolerance of 1e-3, which leaves the objective within 1e-4 of the optimum; here
the optimum itself is found. The paper says "following DINO"; the code follows MSN's recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mm_graft.evaluation.features import check_features
from mm_graft.spelling import named

LAMBDA_TIMES_N = 0.00025
TOLERANCE = 1e-10  # largest element of the gradient; f is flat, 1e-6 would leave it a thousandth above its minimum
MAX_ITERATIONS = 10000


@dataclass(frozen=True)
class FewShotResult:
    """Result of a fitted classifier."""

    accuracy: float  #: fraction of test rows that are right
    predictions: Tensor  #: (M,) classes of the test rows
    weight: Tensor  #: W, (C, D), for preprocessed rows


def preprocess_rows(features: Tensor) -> Tensor:
    """Rows (N, D) minus their own mean over the features, then of Euclidean length 1, in float64."""
    rows = features.double()
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def logreg_objective(weight: Tensor, rows: Tensor, labels: Tensor, lam: float) -> Tensor:
    """f(W) = mean cross-entropy of W x + (λ/2) ‖W‖², for W (C, D), preprocessed rows (n, D), labels (n,)."""
    return F.cross_entropy(rows @ weight.T, labels) + lam / 2 * weight.square().sum()


def fit_logreg(rows: Tensor, labels: Tensor, num_classes: int, lam: float) -> Tensor:
    """W (C, D) at the optimum of :func:`logreg_objective`, for preprocessed rows (n, D) of all C classes."""
    # Of two classes scikit-learn solves for the difference of the rows, whose penalty would count twice.
    strength = (2 if num_classes == 2 else 1) / (len(rows) * lam)
    from sklearn.linear_model import LogisticRegression  # a second that the other protocols do without
    solver = LogisticRegression(C=strength, fit_intercept=False, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    found = torch.from_numpy(solver.fit(rows.cpu().numpy(), labels.cpu().numpy()).coef_).to(rows)
    return torch.cat([-found, found]) / 2 if num_classes == 2 else found


def fewshot_logreg(train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor,
                   num_classes: int | None = None, lambda_times_n: float = LAMBDA_TIMES_N,
                   classes: Sequence[str] = ()) -> FewShotResult:
    """Fit on the training features (n, D), raw, and score the test features (M, D), raw; errors name ``classes``."""
    num_classes = check_features(train_features, train_labels, test_features, test_labels, num_classes)
    missing = sorted(set(range(num_classes)) - set(train_labels.tolist()))
    if missing:
        raise ValueError(
            f'{len(missing)} of {num_classes} classes have no training image: {named(missing[:10], classes)}; use a '
            'class-balanced list (`mm_graft split` writes one)')
    if not lambda_times_n > 0:
        raise ValueError(f'lambda_times_n={lambda_times_n} is not positive; the authors use {LAMBDA_TIMES_N}')
    weight = fit_logreg(preprocess_rows(train_features), train_labels, num_classes, lambda_times_n / len(train_labels))
    predictions = (preprocess_rows(test_features.to(weight.device)) @ weight.T).argmax(1)
    correct = int((predictions == test_labels.to(predictions.device)).sum())
    return FewShotResult(correct / len(predictions), predictions, weight)
