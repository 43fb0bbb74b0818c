"""Linear probing: a grid of learning rates and weight decays, trained at once as one batched head.

Layer Grafted Pre-training and MoCo v3 train a linear classifier on frozen features by SGD without warm-up, its learning
rate following a half cosine that changes once an epoch. The authors train 70 classifiers side by side: base rates
{1, 3, 5, 7, 9} × {1e-5, …, 10}, weight decay 0 or 1e-6, weights from N(0, 0.01²), biases 0, and momentum 0 (their flag
of 0.9 never reaches the optimizer). All 70 share each batch, so here they are one matrix (D, H·C) with the gradient of
the cross-entropy written out. Their images are randomly cropped and flipped in each epoch, as in
:mod:`mm_graft.evaluation.linear_augmented`; here features are those of the test transform.

Two habits of theirs are not the default. They multiply the base rate by *total* batch × world size / 256 although the
batch is already the total one, 128 rather than 16 for batch 4096 on 8 devices (:func:`scale_as_released`). And they
pick the best epoch and head on the test images (:func:`linear_probe_selected_on_test`); here the head is chosen on
images held out of the training set, then scored once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_graft.equations import half_cosine
from mm_graft.evaluation.features import check_features
from mm_graft.evaluation.linear_sweep import LinearSweep

DIGITS, POWERS = (1, 3, 5, 7, 9), (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10)


def sweep_grid(
    base_lrs: Sequence[float] | None = None, weight_decays: Sequence[float] = (0, 1e-6),
) -> list[tuple[float, float]]:
    """(base rate, weight decay) of every head, the base rate in the outer loop; the authors' 70 without arguments."""
    base_lrs = base_lrs or [digit * power for power in POWERS for digit in DIGITS]
    return [(lr, decay) for lr in base_lrs for decay in weight_decays]


def scale_linear_rule(base_lr: float, total_batch: int) -> float:
    """Learning rate by the linear rule: base × total batch / 256."""
    return base_lr * (total_batch / 256)


def scale_as_released(base_lr: float, total_batch: int, world_size: int) -> float:
    """Learning rate as the released script computes it: base × total batch × world size / 256.

    The batch is already the total one, so this is ``world_size`` times the linear rule.
    """
    return base_lr * (total_batch * world_size / 256)


@dataclass(frozen=True)
class LinearProbeResult:
    """The chosen head, and how it was chosen."""

    accuracy: float  #: fraction of test rows that are right
    predictions: Tensor  #: (M,) classes of the test rows
    base_lr: float  #: base rate of the chosen head
    lr: float  #: its initial learning rate
    weight_decay: float
    selection_accuracy: float  #: accuracy on the rows that chose it
    selected_on: str  #: ``'held-out training images'`` or ``'test images'``
    epoch: int  #: epochs after which it was scored


@dataclass(frozen=True)
class LinearProbeSettings:
    """How the heads are trained."""

    grid: tuple[tuple[float, float], ...] = tuple(sweep_grid())  #: (base rate, weight decay) of every head
    epochs: int = 90  #: passes over the training rows
    batch_size: int = 4096  #: rows in a step
    #: only for ``as_released``: the number of processes that the authors' script would have run on
    world_size: int = 1
    as_released: bool = False  #: the authors' scale of the rate instead of the linear rule
    batch_norm: bool = False  #: normalize features by an affine-free batch norm (epsilon 1e-6) first, as MAE does
    held_out: float = 0.1  #: share of each class of the training rows that chooses the head
    seed: int = 0  #: of the initial weights, the order of rows and the held-out rows

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f'epochs={self.epochs}, batch_size={self.batch_size}; both must be at least 1')
        if not 0 < self.held_out < 1:
            raise ValueError(f'held_out={self.held_out} lies outside (0, 1); 0.1 is usual')

    def learning_rates(self) -> list[float]:
        """Initial learning rate of every head."""
        if self.as_released:
            return [scale_as_released(lr, self.batch_size, self.world_size) for lr, _ in self.grid]
        return [scale_linear_rule(lr, self.batch_size) for lr, _ in self.grid]


def hold_out(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of the rows to train on and of those held out: ``share`` of each class, at least one, never all.

    Classes of one image stay in training.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # class by class, random within a class
    counts = labels.bincount()
    quota = (counts * share).round().long().clamp(min=1).minimum((counts - 1).clamp(min=0))
    start = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - start[labels[order]]
    held = rank < quota[labels[order]]
    if not held.any():
        raise ValueError('no class has two images, so none can be held out to choose the head; give more images')
    return order[~held], order[held]


def linear_probe(train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor,
                 num_classes: int | None = None, settings: LinearProbeSettings | None = None) -> LinearProbeResult:
    """Train the grid on part of the training rows (N, D), choose the head on the rest, score it once on test rows."""
    settings = settings or LinearProbeSettings()
    num_classes = check_features(train_features, train_labels, test_features, test_labels, num_classes)
    kept, held = (rows.to(train_features.device) for rows in hold_out(
        train_labels, settings.held_out, torch.Generator().manual_seed(settings.seed)))
    labels = train_labels.to(train_features.device)
    sweep = new_sweep(train_features, num_classes, settings)
    for _ in _train(sweep, train_features, labels, kept, settings):
        pass
    return choose_head(sweep, settings, (train_features[held], labels[held]), (test_features, test_labels),
                       'held-out training images', settings.epochs)


def linear_probe_selected_on_test(train_features: Tensor, train_labels: Tensor, test_features: Tensor,
                                  test_labels: Tensor, num_classes: int | None = None,
                                  settings: LinearProbeSettings | None = None) -> LinearProbeResult:
    """The authors' habit: train on all training rows, report the best epoch of the best head *on the test rows*.

    The number is a maximum over heads × epochs tries, hence optimistic; the result says so in ``selected_on``.
    Arguments and errors as :func:`linear_probe`.
    """
    settings = settings or LinearProbeSettings()
    num_classes = check_features(train_features, train_labels, test_features, test_labels, num_classes)
    sweep, test = new_sweep(train_features, num_classes, settings), (test_features, test_labels)
    labels = train_labels.to(train_features.device)
    epochs = _train(sweep, train_features, labels, torch.arange(len(labels), device=labels.device), settings)
    results = (choose_head(sweep, settings, test, test, 'test images', epoch) for epoch in epochs)
    return max(results, key=lambda result: result.accuracy)  # the first of several that are equal


def new_sweep(
    features: Tensor, num_classes: int, settings: LinearProbeSettings, generator: torch.Generator | None = None,
) -> LinearSweep:
    """The untrained heads of a grid for features (N, D), on their device; without a generator from the seed."""
    return LinearSweep(
        features.shape[1], num_classes, settings.learning_rates(), [decay for _, decay in settings.grid],
        settings.batch_norm, generator or torch.Generator().manual_seed(settings.seed), features.device)


def choose_head(
    sweep: LinearSweep, settings: LinearProbeSettings, chosen_on: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
    selected_on: str, epoch: int,
) -> LinearProbeResult:
    """The head that is best on features and labels ``chosen_on``, scored on those of ``test``."""
    accuracies = sweep.accuracies(*chosen_on)
    head = int(accuracies.argmax())
    predictions = sweep.predict(test[0], head)
    accuracy = int((predictions == test[1].to(predictions.device)).sum()) / len(predictions)
    base_lr, decay = settings.grid[head]
    return LinearProbeResult(accuracy, predictions, base_lr, settings.learning_rates()[head], decay,
                             float(accuracies[head]), selected_on, epoch)


def _train(
    sweep: LinearSweep, features: Tensor, labels: Tensor, rows: Tensor, settings: LinearProbeSettings,
) -> Iterator[int]:
    """Train on the given rows and hand over the number of finished epochs after each."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    for epoch in range(settings.epochs):
        order = torch.randperm(len(rows), generator=generator).to(rows.device)
        for batch in rows[order].split(settings.batch_size):
            sweep.step(features[batch], labels[batch], half_cosine(epoch, settings.epochs))
        yield epoch + 1
