r"""Self-distillation: a student predicts what its moving average says of other views, and of hidden patches.

With K prototypes, teacher views g ∈ G, student views v ∈ V ⊇ G and hidden patches m ∈ M(i) of image i,

.. math::
    L_\text{class} = -\frac1{|G|(|V| - 1)} \sum_g \sum_{v \ne g} \frac1B \sum_i t_{gi} \log p_{vi}, \qquad
    L_\text{patch} = -\frac1B \sum_i \frac1{|M(i)|} \sum_{m \in M(i)} t_m \log p_m,

p = softmax(s / τ_s) of the student's scores; t is of the teacher's, either centered and sharpened,
:func:`centered_softmax`, or balanced over the prototypes, :func:`sinkhorn_knopp`. DINO
(``facebookresearch/dino@7c446df``, ``main_dino.py``; Caron et al., ICCV 2021), iBOT (``bytedance/ibot@da316d8``,
``main_ibot.py``; Zhou et al., ICLR 2022), DINOv2 (``facebookresearch/dinov2@b8931f7``, ``dinov2/loss``; Oquab et al.,
TMLR 2024).
"""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mm_graft.equations import at_least_float32
from mm_graft.registry import MODELS


def class_cross_entropy(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy of every teacher view with every *other* student view.

    Args:
        student: scores (V, B, K), the views that the teacher sees too first.
        targets: distributions (G, B, K).
        temperature: of the student.
    """
    log_p = (student / temperature).log_softmax(-1)
    pairs = -torch.einsum('gbk,vbk->gv', targets, log_p) / student.shape[1]  # (G, V)
    same = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(same, 0).sum() / (pairs.numel() - len(pairs))


def patch_cross_entropy(student: Tensor, targets: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Cross entropy of hidden patches: mean over those of an image, then over all images; one without any counts as 0.

    Args:
        student: scores (M, K) of the hidden patches, in the order of ``mask``.
        targets: distributions (M, K) of the same patches.
        mask: (B, N), True = hidden; M are True.
        temperature: of the student.
    """
    entropy = -(targets * (student / temperature).log_softmax(-1)).sum(-1)  # (M,)
    hidden = mask.sum(1)  # (B,)
    return (entropy / hidden.repeat_interleave(hidden, output_size=len(entropy))).sum() / len(mask)


def centered_softmax(scores: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Distributions (M, K) of a teacher's scores (M, K) less their center (K,), sharpened by the temperature."""
    return ((scores - center) / temperature).softmax(-1)


def sinkhorn_knopp(scores: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Distributions (M, K) in which all prototypes are used about equally, over the samples of all processes.

    Prototypes and samples are normalized in turn, samples last (Cuturi 2013; SwAV, DINOv2). Here in logarithms, so that
    no exponential overflows; the authors' constant factors cancel.

    Args:
        scores: of the teacher (M, K); M may differ between processes, and be 0.
        temperature: of the teacher.
        iterations: of normalizing both.
    """
    log_q = scores / temperature
    for _ in range(iterations):
        log_q = log_q - _logsumexp_over_samples(log_q)
        log_q = log_q.log_softmax(1)
    return log_q.exp()


def _logsumexp_over_samples(x: Tensor) -> Tensor:
    lowest = x.new_full((1, x.shape[1]), torch.finfo(x.dtype).min)  # of a process without samples
    peak = torch.cat([x, lowest]).amax(0)
    all_reduce(peak, op='max')
    total = (x - peak).exp().sum(0)
    all_reduce(total)
    return peak + total.log()


def mean_over_processes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (K,) of the rows (M, K) of all processes, 0 if there are none, and their number."""
    total, count = scores.sum(0), scores.new_full((), len(scores))
    all_reduce(total)
    all_reduce(count)
    return total / count.clamp(min=1), count


@MODELS.register_module()
class Centering(nn.Module):
    r"""A teacher's targets by :func:`centered_softmax`; the center is the running mean of its scores.

    .. math:: c \leftarrow m c + (1 - m) \bar s

    with the mean over all rows of all processes, after the targets of the batch were made. As the statistics of a batch
    norm it moves in every forward pass in training mode and is part of the state dict. DINOv2 averages the means of the
    processes, which differs where they have different numbers of hidden patches; iBOT's center of the patches is that
    of all patches, DINOv2's and ours that of hidden ones.

    Args:
        channels: prototypes K.
        momentum: m.
    """

    def __init__(self, channels: int, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum={momentum} is the share that the center keeps; choose one in [0, 1]')
        self.momentum = momentum
        self.register_buffer('center', torch.zeros(channels))

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        """Targets (M, K) of scores (M, K)."""
        scores = at_least_float32(scores)
        targets = centered_softmax(scores, self.center.to(scores.dtype), temperature)
        if self.training:
            mean, count = mean_over_processes(scores)
            mean = torch.where(count > 0, mean.to(self.center.dtype), self.center)  # no hidden patches: it stays
            self.center.lerp_(mean, 1 - self.momentum)
        return targets


@MODELS.register_module()
class SinkhornKnopp(nn.Module):
    """A teacher's targets by :func:`sinkhorn_knopp`; has no state.

    Args:
        channels: prototypes K, taken for the interface of :class:`Centering`.
        iterations: of normalizing prototypes and samples.
    """

    def __init__(self, channels: int, iterations: int = 3) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f'iterations={iterations}; Sinkhorn-Knopp needs at least 1, its authors take 3')
        self.iterations = iterations

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        """Targets (M, K) of scores (M, K)."""
        return sinkhorn_knopp(at_least_float32(scores), temperature, self.iterations)
