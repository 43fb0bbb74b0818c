r"""Attentive probing over all layers: one learned query attends to the outputs of all blocks of a frozen encoder.

Attentive layer fusion (Ciernik, Morik et al., ICML 2026, arXiv 2601.09322;
``lciernik/attentive-layer-fusion@ef86a87``). The tokens x are class token and mean of patches of each block; with a
learned query q,

.. math:: z = W_o \, \mathrm{softmax}\Bigl(\frac{W_q \mathrm{LN}(q) \, (W_k \mathrm{LN}(x))^\top}{\sqrt d}\Bigr)
          W_v \mathrm{LN}(x), \qquad s = W \, \mathrm{BN}(z) + b

with heads of d = 2·D / heads, as in their code, which has no residual either. What they tune (dropout, weight decay,
jitter of the features) is left out; the learning rate is chosen on images held out of the training set.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.depth import blocks_of
from mm_graft.equations import half_cosine
from mm_graft.evaluation.frozen import Evaluation
from mm_graft.evaluation.layer_features import num_prefix_tokens
from mm_graft.evaluation.linear_probe import LinearProbeSettings, hold_out
from mm_graft.evaluation.protocols import over_seeds

RATES = (1e-4, 1e-3, 1e-2)
WEIGHT_DECAY = 0.01
HEADS = 8
ROWS = 4096  # rows scored at once


class AttentiveFusion(nn.Module):
    """A query over tokens (B, T, D), batch norm, and a linear classifier.

    Args:
        num_heads: of the attention; the largest number up to it that divides D is taken.
    """

    def __init__(self, dims: int, num_classes: int, num_heads: int = HEADS) -> None:
        super().__init__()
        self.num_heads = next(number for number in range(num_heads, 0, -1) if dims % number == 0)
        self.query = nn.Parameter(torch.empty(1, 1, dims).normal_(std=0.02))
        self.norm_query, self.norm_key, self.norm_value = (nn.LayerNorm(dims) for _ in range(3))
        self.to_query, self.to_key, self.to_value = (nn.Linear(dims, 2 * dims, bias=False) for _ in range(3))
        self.proj = nn.Linear(2 * dims, dims)
        self.norm = nn.BatchNorm1d(dims)
        self.classifier = nn.Linear(dims, num_classes)

    def attention(self, tokens: Tensor) -> Tensor:
        """How much each head attends to each token, (B, H, T)."""
        query = self.to_query(self.norm_query(self.query)).unflatten(2, (self.num_heads, -1))  # (1, 1, H, d)
        key = self.to_key(self.norm_key(tokens)).unflatten(2, (self.num_heads, -1))  # (B, T, H, d)
        return (torch.einsum('bqhd,bthd->bht', query, key) * key.shape[-1]**-0.5).softmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores (B, C) of tokens (B, T, D)."""
        value = self.to_value(self.norm_value(tokens)).unflatten(2, (self.num_heads, -1))
        fused = torch.einsum('bht,bthd->bhd', self.attention(tokens), value).flatten(1)  # (B, H, d) → (B, 2·D)
        return self.classifier(self.norm(self.proj(fused)))


@dataclass(frozen=True)
class Fitted:
    """A fitted model, its learning rate, and its accuracy on the images that chose it."""

    model: AttentiveFusion
    lr: float
    selection: float


def fit(tokens: Tensor, labels: Tensor, num_classes: int, lr: float, settings: LinearProbeSettings) -> AttentiveFusion:
    """Train on tokens (N, T, D) by AdamW, the learning rate falling along half a cosine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = AttentiveFusion(tokens.shape[2], num_classes).to(tokens.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    size = min(settings.batch_size, len(tokens))
    steps = [rows for _ in range(settings.epochs) for rows in
             torch.randperm(len(tokens), generator=generator).split(size) if len(rows) > 1]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: half_cosine(step, len(steps)))
    for rows in steps:
        rows = rows.to(tokens.device)
        optimizer.zero_grad()
        F.cross_entropy(model(tokens[rows].float()), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: AttentiveFusion, tokens: Tensor, labels: Tensor) -> float:
    """Fraction of tokens (N, T, D) that the model classifies right."""
    right = sum(int((model(part.float()).argmax(1) == target).sum())
                for part, target in zip(tokens.split(ROWS), labels.split(ROWS)))
    return right / len(labels)


def choose(tokens: Tensor, labels: Tensor, num_classes: int, settings: LinearProbeSettings) -> Fitted:
    """The model of the learning rate that does best on images held out of the training set."""
    kept, held = (rows.to(labels.device) for rows in hold_out(
        labels, settings.held_out, torch.Generator().manual_seed(settings.seed)))
    fitted = []
    for lr in RATES:
        model = fit(tokens[kept], labels[kept], num_classes, lr, settings)
        fitted.append(Fitted(model, lr, accuracy(model, tokens[held], labels[held])))
    return max(fitted, key=lambda each: each.selection)


def run_attentive_fusion(evaluation: Evaluation) -> dict:
    """Attentive probing over all layers, once for every seed; where the attention goes is reported by block."""
    layered = replace(evaluation, settings=replace(evaluation.settings, pool='all-blocks'))
    data, settings = layered.data, evaluation.settings.protocol
    backbone = evaluation.encoder.backbone
    num_blocks, per_block = len(blocks_of(backbone)), 2 if num_prefix_tokens(backbone) else 1
    train, test = (features.unflatten(1, (num_blocks * per_block, -1))  # (N, T·D) → (N, T, D)
                   for features in (data.train_features, data.test_features))
    results = []
    for offset in range(settings.seeds):
        linear = replace(settings.linear, seed=settings.linear.seed + offset)
        chosen = choose(train, data.train_labels, data.num_classes, linear)
        results.append((accuracy(chosen.model, test, data.test_labels), chosen))
    first = results[0][1]
    with torch.no_grad():
        attention = first.model.attention(test[:ROWS].float()).mean((0, 1))  # (T,)
    blocks = attention.unflatten(0, (num_blocks, per_block)).sum(1)
    return {**over_seeds([value for value, _ in results], len(data.test_labels)), 'base_lr': first.lr,
            'selected_on': 'held-out training images', 'selection_top1': 100 * first.selection,
            'attention_by_block': blocks.tolist()}
