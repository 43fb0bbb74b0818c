r"""Multi-label classification by one softmax: each of an image's k tags is the target with probability 1/k.

.. math:: L = \frac1B \sum_i \Bigl( \log \sum_c e^{s_{ic}} - \frac1{k_i} \sum_{t \in \text{tags}(i)} s_{it} \Bigr)

Mahajan et al. 2018 (arXiv 1805.00932) found it better than one logistic loss a tag; the weakly supervised pre-training
of Singh et al. 2023 (arXiv 2303.13496) goes on with it.
"""

import torch
from torch import Tensor, nn

from mm_graft.equations import at_least_float32
from mm_graft.registry import MODELS


def tag_cross_entropy(scores: Tensor, labels: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Mean over the images of the cross-entropy with the uniform distribution over an image's tags.

    It equals the host's ``soft_cross_entropy`` with dense targets 1/k, which for 28,000 labels and 1024 images are
    115 MB; here they are never written down.

    Args:
        scores: (B, C) logits.
        labels: (T,) tags of all images, one after another.
        rows: (T,) the image of each.
        counts: (B,) number of tags of each image, at least 1.
    """
    of_tags = scores[rows, labels] / counts[rows]  # (T,)
    return scores.logsumexp(1).mean() - of_tags.sum() / len(scores)


def flatten_tags(labels: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Tags (k_i,) of B images → all tags (T,), the image of each (T,), number of tags of each image (B,)."""
    lengths = [len(label) for label in labels]
    if min(lengths) == 0:
        raise ValueError(f'image {lengths.index(0)} of the batch has no tag; leave such images out of the data set')
    flat = torch.cat(labels)
    counts = torch.tensor(lengths).to(flat.device, non_blocking=True)
    rows = torch.repeat_interleave(torch.arange(len(labels), device=flat.device), counts, output_size=len(flat))
    return flat, rows, counts


def tag_hits(scores: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Percentage of images (B, C) whose highest score is one of their tags."""
    hits = scores.argmax(1)[rows] == labels
    return 100 * hits.sum() / len(scores)


@MODELS.register_module()
class TagCrossEntropyLoss(nn.Module):
    """:func:`tag_cross_entropy` of a batch, in single precision.

    Args:
        loss_weight: factor.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, labels: list[Tensor]) -> Tensor:
        """Loss of logits (B, C) and the tags (k_i,) of each image."""
        return self.loss_weight * tag_cross_entropy(at_least_float32(scores), *flatten_tags(labels))
