"""How well an encoder knows the new and the old domain: kNN of its class token and of the mean of its patches."""

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.continuing.images import Domain, Labeled
from mm_graft.encoders import Encoder, encode_full, out_type_of
from mm_graft.evaluation.knn import knn_accuracy

NEIGHBORS = 20
POOLS = ('class token', 'patch mean')
BATCH = 100


def tokens(encoder: Encoder, images: Tensor) -> Tensor:
    """All tokens (B, 1 + N, D) of images (B, 3, H, W) in 0…255, which are scaled to the encoder's size."""
    scaled = F.interpolate(images.float(), encoder.image_size, mode='bicubic').clamp(0, 255)
    with torch.no_grad(), out_type_of(encoder.backbone, 'raw'):
        return encode_full(encoder.backbone, encoder.normalize(scaled))


def features(encoder: Encoder, data: Labeled) -> dict[str, Tensor]:
    """Class token and patch mean, (N, D) each."""
    parts = [(batch[:, 0], batch[:, 1:].mean(1)) for batch in
             (tokens(encoder, images) for images in data.images.split(BATCH))]
    return {pool: torch.cat(rows) for pool, rows in zip(POOLS, zip(*parts))}


def score(encoder: Encoder, domains: dict[str, Domain], part: str = 'test') -> dict[str, dict[str, float]]:
    """Accuracy of kNN in percent, by domain and pool.

    Args:
        encoder: in eval mode.
        domains: by name.
        part: the images that are classified: ``'test'``, or ``'held_out'`` to choose by.
    """
    found = {}
    for name, domain in domains.items():
        asked = getattr(domain, part)
        bank, queries = features(encoder, domain.bank), features(encoder, asked)
        found[name] = {pool: 100 * knn_accuracy(bank[pool], domain.bank.labels, queries[pool], asked.labels,
                                                (NEIGHBORS, ))[NEIGHBORS] for pool in POOLS}
    return found
