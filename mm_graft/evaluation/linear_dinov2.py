"""DINOv2's grid of linear heads: four kinds of features, thirteen learning rates, SGD with momentum.

Oquab et al. 2023 (arXiv 2304.07193), ``facebookresearch/dinov2`` (``eval/linear.py``): the class token of the last
block or of the last four, alone or with the mean of the last one's patches; base rates 1e-5 … 0.1 for 256 images,
momentum 0.9, no weight decay, half a cosine to 0 over the steps; the best of all heads, chosen on the test images.
MIM-Refiner (``ml-jku/MIM-Refiner@cc574235995e``, ``probe_processor.py``) has rates from 1e-4 to 0.5 and a warm-up.

Here the features are those of one view of each image, extracted once, where both train on random crops; and the head
is chosen on images held out of the training set, unless ``select_on_test`` asks for their habit.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mm_graft.equations import half_cosine
from mm_graft.evaluation.frozen import Evaluation
from mm_graft.evaluation.layer_features import LAST
from mm_graft.evaluation.linear_probe import LinearProbeSettings, hold_out, scale_linear_rule
from mm_graft.evaluation.linear_sweep import LinearSweep
from mm_graft.evaluation.protocols import FrozenData, over_seeds

BASE_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
MOMENTUM = 0.9  # μ


class MomentumSweep(LinearSweep):
    """Linear classifiers that share their input, trained by SGD with momentum μ: v ← μ v + g, W ← W − η m v."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.velocities = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    @torch.no_grad()
    def step(self, features: Tensor, labels: Tensor, multiplier: float = 1.0) -> None:
        """One step on features (B, D) with labels (B,); ``multiplier`` scales every learning rate."""
        features = features.float()
        residual = self._residual(features, labels)
        gradients = features.T @ residual / len(features), residual.mean(0)
        for tensor, velocity, gradient in zip((self.weight, self.bias), self.velocities, gradients):
            velocity.mul_(MOMENTUM).add_(gradient)
            tensor.addcmul_(velocity, self.lr * multiplier, value=-1)


def inputs_of(features: Tensor) -> dict[str, Tensor]:
    """DINOv2's four kinds of features, from the last four class tokens and the mean of patches, (N, 5·D)."""
    width = features.shape[1] // (LAST + 1)
    last = slice((LAST - 1) * width, LAST * width)
    return {
        'class token': features[:, last],
        'class token and patches': features[:, last.start:],
        'four class tokens': features[:, :last.stop],
        'four class tokens and patches': features,
    }


def train_heads(features: Tensor, labels: Tensor, num_classes: int, settings: LinearProbeSettings) -> MomentumSweep:
    """Thirteen heads on features (N, D), the same order of images whatever the features."""
    rates = [scale_linear_rule(rate, settings.batch_size) for rate in BASE_RATES]
    sweep = MomentumSweep(features.shape[1], num_classes, rates, [0.0] * len(rates), device=features.device,
                          generator=torch.Generator().manual_seed(settings.seed))
    generator = torch.Generator().manual_seed(settings.seed + 1)
    steps = [rows for _ in range(settings.epochs)
             for rows in torch.randperm(len(features), generator=generator).split(settings.batch_size)]
    for step, rows in enumerate(steps):
        rows = rows.to(features.device)
        sweep.step(features[rows], labels[rows], half_cosine(step, len(steps)))
    return sweep


def probe(data: FrozenData, settings: LinearProbeSettings, select_on_test: bool) -> dict:
    """Accuracy of the best of all heads, and of the best of each kind of features."""
    labels, test_labels = data.train_labels, data.test_labels
    kept = held = torch.arange(len(labels))
    if not select_on_test:
        kept, held = hold_out(labels, settings.held_out, torch.Generator().manual_seed(settings.seed))
    kept, held = kept.to(labels.device), held.to(labels.device)
    found = {}
    for name, train, test in zip(inputs_of(data.train_features), inputs_of(data.train_features).values(),
                                 inputs_of(data.test_features).values()):
        sweep = train_heads(train[kept], labels[kept], data.num_classes, settings)
        on_test = sweep.accuracies(test, test_labels)
        chosen_by = on_test if select_on_test else sweep.accuracies(train[held], labels[held])
        head = int(chosen_by.argmax())
        found[name] = {'selection': float(chosen_by[head]), 'accuracy': float(on_test[head]),
                       'base_lr': BASE_RATES[head]}
    best = max(found, key=lambda name: found[name]['selection'])
    return {**found[best], 'features': best, 'by_features': {name: each['accuracy'] for name, each in found.items()}}


def run_linear_dinov2(evaluation: Evaluation) -> dict:
    """DINOv2's grid, once for every seed."""
    layered = replace(evaluation, settings=replace(evaluation.settings, pool='last-blocks'))
    settings = evaluation.settings.protocol
    results = [probe(layered.data, replace(settings.linear, seed=settings.linear.seed + offset),
                     settings.select_on_test) for offset in range(settings.seeds)]
    first = results[0]
    return {**over_seeds([result['accuracy'] for result in results], len(layered.data.test_labels)),
            'selected_on': 'test images' if settings.select_on_test else 'held-out training images',
            'selection_top1': 100 * first['selection'], 'base_lr': first['base_lr'], 'features': first['features'],
            'top1_by_features': {name: 100 * value for name, value in first['by_features'].items()},
            'heads': len(first['by_features']) * len(BASE_RATES)}
