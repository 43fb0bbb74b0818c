"""Few-shot logistic regression on frozen features, as Layer Grafted Pre-training evaluates with 1 % of the labels.

With x_i the i-th row (D features), centred by *its own* mean over the features and then scaled to length 1, for n rows
and C classes, W (C, D) minimises

    f(W) = (1/n) Σ_i CE(W x_i, y_i) + (λ/2) ‖W‖²,   λ = 0.00025 / n,   no intercept.

scikit-learn writes the same problem ``LogisticRegression(C=4000, fit_intercept=False)``: C = 1/(n λ) for every n.

Two facts make it quick. Near W = 0 the curvature of f is close to that of (xᵀx / n) / C + λ, so the solver works in
coordinates in which this is the identity; features with a few strong directions would otherwise take it thousands of
steps. And the solver, L-BFGS, runs on the features' device.

The authors solve it with the library cyanure and stop at a tolerance of 1e-3, which leaves the objective within 1e-4 of
the optimum; here the optimum itself is found. The paper says "following DINO"; the code follows MSN's recipe.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LAMBDA_TIMES_N = 0.00025
# Where the classes separate, the curvature at the optimum is far below that at 0; without damping weak directions would
# be stretched too much. Of 1, 0.1 and 0.01, 0.1 took the fewest steps over separable and inseparable features.
DAMPING = 0.1


@dataclass(frozen=True)
class FewShotResult:
    """What a fitted classifier says.

    Attributes:
        accuracy: fraction of test rows that are right.
        predictions: (M,) classes of the test rows.
        weight: (C, D) for preprocessed rows.
        objective: f(W).
    """

    accuracy: float
    predictions: Tensor
    weight: Tensor
    objective: float


def preprocess_rows(features: Tensor) -> Tensor:
    """Rows (N, D) minus their own mean over the features, then of Euclidean length 1, in float64."""
    rows = features.double()
    return F.normalize(rows - rows.mean(1, keepdim=True), dim=1)


def logreg_objective(weight: Tensor, rows: Tensor, labels: Tensor, lam: float) -> Tensor:
    """f(W) = mean cross-entropy of W x + (λ/2) ‖W‖², for W (C, D), preprocessed rows (n, D), labels (n,)."""
    return F.cross_entropy(rows @ weight.T, labels) + lam / 2 * weight.square().sum()


def fit_logreg(
    rows: Tensor,
    labels: Tensor,
    num_classes: int,
    lam: float,
    tolerance: float = 1e-9,
    max_iterations: int = 5000,
) -> Tensor:
    """W (C, D) at the optimum of :func:`logreg_objective`.

    Args:
        rows: (n, D), preprocessed.
        labels: (n,), classes from 0.
        num_classes: C.
        lam: λ.
        tolerance: largest element of the gradient, relative to its start, at which the solver stops. f is flat: 1e-9
            leaves f within about 1e-12 of its minimum, relatively.
        max_iterations: L-BFGS iterations at most.
    """
    turn = _preconditioner(rows, num_classes, lam)  # (D, D), W = V turnᵀ
    turned, penalty = rows @ turn, lam * turn.square().sum(0)
    weight = rows.new_zeros(num_classes, turned.shape[1], requires_grad=True)
    # At V = 0 every gradient element is (mean of x over class c) − (mean of x) / C, scaled by the class's share.
    start = (F.one_hot(labels, num_classes).to(rows) - 1 / num_classes).T @ turned / len(rows)
    solver = torch.optim.LBFGS(
        [weight], max_iter=max_iterations, max_eval=2 * max_iterations, history_size=20,
        tolerance_grad=tolerance * float(start.abs().max()), tolerance_change=0, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        value, weight.grad = _value_and_gradient(weight.detach(), turned, labels, penalty)
        return value

    solver.step(closure)
    return weight.detach() @ turn.T


def fewshot_logreg(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_classes: int | None = None,
    lambda_times_n: float = LAMBDA_TIMES_N,
) -> FewShotResult:
    """Fit on the training features (n, D), raw, and score the test features (M, D), raw.

    Raises:
        ValueError: shapes do not fit, a class has no training image, or λ is not positive.
    """
    num_classes = num_classes or int(torch.cat([train_labels, test_labels]).max()) + 1
    _check(train_features, train_labels, test_features, test_labels, num_classes, lambda_times_n)
    device = train_features.device
    rows, labels = preprocess_rows(train_features), train_labels.to(device)
    lam = lambda_times_n / len(rows)
    weight = fit_logreg(rows, labels, num_classes, lam)
    predictions = (preprocess_rows(test_features.to(device)) @ weight.T).argmax(1)
    correct = int((predictions == test_labels.to(device)).sum())
    return FewShotResult(
        correct / len(predictions), predictions, weight, float(logreg_objective(weight, rows, labels, lam)))


def _value_and_gradient(weight: Tensor, rows: Tensor, labels: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy + Σ penalty_d V_cd² / 2, and its gradient, for turned rows and weights."""
    log_probability = (rows @ weight.T).log_softmax(1)  # (n, C)
    picked = log_probability.gather(1, labels[:, None])
    value = (weight.square() * penalty).sum() / 2 - picked.mean()
    residual = log_probability.exp_().scatter_add_(1, labels[:, None], -torch.ones_like(picked))
    return value, torch.addmm(weight * penalty, residual.T, rows, alpha=1 / len(rows))


def _preconditioner(rows: Tensor, num_classes: int, lam: float) -> Tensor:
    """Q diag(((s + DAMPING · mean s) / C + λ)^−½), (D, D), with eigenvectors Q and eigenvalues s of xᵀx / n."""
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    values = values.clamp(min=0)
    return vectors * ((values + DAMPING * values.mean()) / num_classes + lam).rsqrt()


def _check(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, num_classes: int, lambda_times_n: float,
) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            f'training features {tuple(train.shape)} and test features {tuple(test.shape)}; give (n, D) and (M, D)')
    if len(train) != len(train_labels) or len(test) != len(test_labels) or not len(test):
        raise ValueError(
            f'{len(train)} training and {len(test)} test features, {len(train_labels)} and {len(test_labels)} labels; '
            'give one label each')
    missing = sorted(set(range(num_classes)) - set(train_labels.tolist()))
    if missing:
        raise ValueError(
            f'{len(missing)} of {num_classes} classes have no training image: {missing[:10]}; use a class-balanced '
            'list (mm_graft split writes one)')
    if not lambda_times_n > 0:
        raise ValueError(f'lambda_times_n={lambda_times_n} is not positive; the authors use {LAMBDA_TIMES_N}')
