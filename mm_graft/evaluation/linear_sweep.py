"""Many linear classifiers trained by SGD on the same batches, as one matrix product."""

from collections.abc import Sequence

import torch
from torch import Tensor

ROWS = 4096  # rows scored at once
INIT_STD = 0.01
BN_EPS = 1e-6
BN_MOMENTUM = 0.1


class LinearSweep:
    """H linear classifiers that share their input, each with its own learning rate and weight decay.

    For head h with probabilities p = softmax(W_h x + b_h) and one-hot labels y, SGD without momentum does

        W_h ← W_h − η_h m (mean over the batch of (p − y) xᵀ + d_h W_h)

    with η_h the head's rate, m the schedule's multiplier and d_h its weight decay; biases alike. The gradients are
    written out, so one step is two matrix products. A head that diverges counts as accuracy 0.

    Args:
        num_features: D.
        lrs: η of every head.
        weight_decays: d of every head.
        batch_norm: put an affine-free batch norm, shared by all heads, before them.
        generator: draws the initial weights, N(0, 0.01²), the same for every head count on every device; biases are 0.
        device: where the weights live.
    """

    def __init__(self, num_features: int, num_classes: int, lrs: Sequence[float], weight_decays: Sequence[float],
                 batch_norm: bool = False, generator: torch.Generator | None = None,
                 device: torch.device | str = 'cpu') -> None:
        if len(lrs) != len(weight_decays) or not len(lrs):
            raise ValueError(f'{len(lrs)} learning rates and {len(weight_decays)} weight decays; give one each a head')
        self.num_heads, self.num_classes = len(lrs), num_classes
        initial = torch.stack([torch.randn(num_classes, num_features, generator=generator) for _ in lrs]) * INIT_STD
        # (H, C, D) → (D, C·H): one product serves every head, and a softmax over C with H innermost vectorizes on CPUs.
        self.weight = initial.permute(2, 1, 0).reshape(num_features, -1).contiguous().to(device)
        self.bias = torch.zeros(self.weight.shape[1], device=device)
        self.lr = torch.tensor(lrs, dtype=torch.float32, device=device).repeat(num_classes)
        self.decay = torch.tensor(weight_decays, dtype=torch.float32, device=device).repeat(num_classes)
        self.batch_norm = batch_norm
        self.running_mean = torch.zeros(num_features, device=device)
        self.running_var = torch.ones(num_features, device=device)

    @torch.no_grad()
    def step(self, features: Tensor, labels: Tensor, multiplier: float = 1.0) -> None:
        """One step of SGD on features (B, D) with labels (B,); ``multiplier`` scales every learning rate."""
        features = self._normalize_and_track(features.float())
        residual = self._residual(features, labels)
        rate = self.lr * multiplier
        shrink = 1 - rate * self.decay
        self.weight.mul_(shrink).addcmul_(features.T @ residual, rate, value=-1 / len(features))
        self.bias.mul_(shrink).addcmul_(residual.mean(0), rate, value=-1)

    @torch.no_grad()
    def accuracies(self, features: Tensor, labels: Tensor) -> Tensor:
        """Accuracy (H,) of every head on features (M, D) with labels (M,)."""
        correct = torch.zeros(self.num_heads, device=self.weight.device)
        for rows, target in zip(features.split(ROWS), labels.to(self.weight.device).split(ROWS)):
            logits = self._logits(self._normalize(rows.float().to(self.weight.device)))
            sound = logits.sum(1).isfinite()
            correct += ((logits.argmax(1) == target[:, None]) & sound).sum(0)
        return correct / len(features)

    @torch.no_grad()
    def predict(self, features: Tensor, head: int) -> Tensor:
        """Classes (M,) that one head gives to features (M, D)."""
        weight, bias = self.weight[:, head::self.num_heads], self.bias[head::self.num_heads]
        return torch.cat([
            (self._normalize(rows.float().to(weight.device)) @ weight + bias).argmax(1)
            for rows in features.split(ROWS)])

    def _residual(self, features: Tensor, labels: Tensor) -> Tensor:
        """The residual p − y, (B, C·H)."""
        residual = self._logits(features).softmax(1)  # (B, C, H)
        index = labels.view(-1, 1, 1).expand(-1, 1, self.num_heads)
        return residual.scatter_add_(1, index, residual.new_full((1, 1, 1), -1.0).expand_as(index)).flatten(1)

    def _logits(self, features: Tensor) -> Tensor:
        scores = torch.addmm(self.bias, features, self.weight)
        return scores.view(len(features), self.num_classes, self.num_heads)  # (B, C·H) → (B, C, H)

    def _normalize_and_track(self, features: Tensor) -> Tensor:
        if not self.batch_norm or len(features) < 2:
            return self._normalize(features)
        return torch.nn.functional.batch_norm(
            features, self.running_mean, self.running_var, training=True, momentum=BN_MOMENTUM, eps=BN_EPS)

    def _normalize(self, features: Tensor) -> Tensor:
        if not self.batch_norm:
            return features
        return torch.nn.functional.batch_norm(features, self.running_mean, self.running_var, eps=BN_EPS)
