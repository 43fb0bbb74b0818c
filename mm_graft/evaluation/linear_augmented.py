"""Linear probing with augmentation: every epoch encodes new crops, so nothing of the training is cached."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mm_graft.encoders import Encoder
from mm_graft.equations import half_cosine
from mm_graft.evaluation.features import encode_together
from mm_graft.evaluation.linear_probe import LinearProbeResult, LinearProbeSettings, choose_head, hold_out, new_sweep
from mm_graft.evaluation.protocols import FrozenData


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


def linear_probe_augmented(encoder: Encoder, augmented: Dataset, indices: Sequence[int], data: FrozenData,
                           settings: LinearProbeSettings, pool: str = 'cls', batch_size: int = 256, workers: int = 2,
                           select_on_test: bool = False) -> LinearProbeResult:
    """The grid of :func:`linear_probe` on features of random crops; all processes encode, and all get the result.

    What a crop shows follows from seed, epoch and image, so the number of processes changes nothing but roundings. The
    head is chosen on held-out training images, which like the test images are seen through the test transform; with
    ``select_on_test`` as in :func:`linear_probe_selected_on_test`: all training images train, and the best epoch of the
    best head on the test images is reported.

    Args:
        encoder: a backbone behind its normalization.
        augmented: the training set with its random crops.
        indices: position in it of every row of ``data.train_features``.
        data: features through the test transform.
        settings: how the heads are trained.
        pool: ``'cls'`` or ``'avg'``.
        batch_size: images encoded at once by a process; a step takes ``settings.batch_size``.
        workers: processes that read images.
        select_on_test: see above.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    kept, held = hold_out(data.train_labels, settings.held_out, generator)
    rows = torch.arange(len(data.train_labels)) if select_on_test else kept
    sweep = new_sweep(data.train_features, data.num_classes, settings, generator)
    test = data.test_features, data.test_labels

    def train() -> Iterator[int]:
        for epoch in range(settings.epochs):
            order = rows[torch.randperm(len(rows), generator=generator)]
            batches = encode_together(encoder, augmented, [indices[row] for row in order.tolist()], pool, batch_size,
                                      workers, progress=epoch == 0, draws=(settings.seed, epoch))
            for features, labels in regroup(batches, settings.batch_size):
                sweep.step(features, labels, half_cosine(epoch, settings.epochs))
            yield epoch + 1

    if select_on_test:
        results = (choose_head(sweep, settings, test, test, 'test images', epoch) for epoch in train())
        return max(results, key=lambda result: result.accuracy)
    for _ in train():
        pass
    held = held.to(data.train_features.device)
    return choose_head(sweep, settings, (data.train_features[held], data.train_labels[held]), test,
                       'held-out training images', settings.epochs)
