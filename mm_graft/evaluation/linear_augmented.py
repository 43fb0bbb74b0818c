"""Linear probing with augmentation: every epoch encodes new crops, so nothing of the training is cached."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mm_graft.evaluation.features import feature_batches
from mm_graft.evaluation.linear_probe import LinearProbeResult, LinearProbeSettings, cosine_multiplier, hold_out
from mm_graft.evaluation.linear_sweep import LinearSweep
from mm_graft.evaluation.protocols import FrozenData
from mm_graft.evaluation.readable import ReadableBatches, ReadableImages, make_loader


def regroup(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of batches of features and labels in groups of ``size``; the last may be smaller."""
    features, labels = [], []
    for batch_features, batch_labels in batches:
        features.append(batch_features)
        labels.append(batch_labels)
        while sum(map(len, labels)) >= size:
            rows, targets = torch.cat(features), torch.cat(labels)
            yield rows[:size], targets[:size]
            features, labels = [rows[size:]], [targets[size:]]
    if sum(map(len, labels)):
        yield torch.cat(features), torch.cat(labels)


def linear_probe_augmented(
    encoder: nn.Module,
    augmented: Dataset,
    indices: Sequence[int],
    data: FrozenData,
    settings: LinearProbeSettings,
    pool: str = 'cls',
    batch_size: int = 256,
    workers: int = 2,
) -> LinearProbeResult:
    """The grid of :func:`linear_probe` on features of random crops.

    The head is chosen on held-out training images, which like the test images are seen through the test transform.

    Args:
        encoder: what :func:`feature_batches` takes.
        augmented: the training set with its random crops.
        indices: position in it of every row of ``data.train_features``.
        data: features through the test transform.
        settings: how the heads are trained.
        pool: ``'cls'`` or ``'avg'``.
        batch_size: images encoded at once; a step takes ``settings.batch_size``.
        workers: processes that read images.
    """
    device = data.train_features.device
    generator = torch.Generator().manual_seed(settings.seed)
    kept, held = hold_out(data.train_labels, settings.held_out, generator)
    sweep = LinearSweep(
        data.train_features.shape[1], data.num_classes, settings.learning_rates(),
        [decay for _, decay in settings.grid], batch_norm=settings.batch_norm, generator=generator, device=device)
    loader = make_loader(batch_size, workers)
    for epoch in range(settings.epochs):
        order = kept[torch.randperm(len(kept), generator=generator)]
        images = ReadableImages(augmented, [indices[row] for row in order.tolist()])
        batches = feature_batches(encoder, ReadableBatches(loader(images), [], []), pool, progress=epoch == 0)
        for features, labels in regroup(batches, settings.batch_size):
            sweep.step(features, labels.to(device), cosine_multiplier(epoch, settings.epochs))
    held = held.to(device)
    accuracies = sweep.accuracies(data.train_features[held], data.train_labels[held])
    head = int(accuracies.argmax())
    predictions = sweep.predict(data.test_features, head)
    base_lr, decay = settings.grid[head]
    return LinearProbeResult(
        int((predictions == data.test_labels).sum()) / len(predictions), predictions, base_lr,
        settings.learning_rates()[head], decay, float(accuracies[head]), 'held-out training images', settings.epochs)
