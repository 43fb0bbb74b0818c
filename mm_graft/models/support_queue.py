r"""A queue of past projections in which an image finds neighbors: the support set of NNCLR and MIM-Refiner.

Dwibedi et al., *With a Little Help from My Friends* (ICCV 2021); as ``ml-jku/MIM-Refiner@cc574235995e``
(``modules/ssl/nnclr_queue.py``) runs it.
"""

from typing import NamedTuple

import torch
from mmengine.dist import broadcast, get_world_size
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.models.gather import gather
from mm_graft.registry import MODELS

NO_ID = -1
LARGEST = 2**63 - 1
GOLDEN_GAMMA = -0x61C8864680B583EB


def mix(numbers: Tensor) -> Tensor:
    """Scatter int64 numbers over all 64 bits, one to one: the finalizer of SplitMix64 (Steele et al., 2014)."""
    numbers = (numbers ^ ((numbers >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    numbers = (numbers ^ ((numbers >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return numbers ^ ((numbers >> 31) & (2**33 - 1))


def draw_below(count: int, *keys: Tensor) -> Tensor:
    """Numbers in 0…count−1, uniform and a function of the int64 ``keys`` alone, which broadcast."""
    state = torch.zeros_like(keys[0])
    for key in keys:
        state = mix((state ^ key) + GOLDEN_GAMMA)
    return (state & LARGEST) % count


class Neighbors(NamedTuple):
    """What N rows found: ``features`` (N, D) as stored, ``labels`` (N,), ``positions`` (N,) in the queue, and the
    ``candidates`` (N, k) among which they were drawn, the most similar first.
    """

    features: Tensor
    labels: Tensor
    positions: Tensor
    candidates: Tensor


@MODELS.register_module()
class SupportQueue(nn.Module):
    """Ring buffer of projections with the ids of their images.

    A look-up takes the ``num_neighbors`` entries of largest cosine similarity and draws one of them, uniformly. In
    training, entries of the same image count as similarity −1; they can still be picked where too few others are there.

    Entries are kept unnormalized in fp32 (or the precision of the model), and compared in that precision: in bf16 the
    twenty nearest of 65,536 would partly be ties. All processes hold the same queue: what is pushed is gathered rank by
    rank, and the first look-up takes over the main process's. So nothing has to be broadcast (``MIMRefiner`` tells
    DDP). The draw is a function of the state (``seed`` and ``pushed``, in the state dict), the view and the id: a
    resumed run draws what an uninterrupted one would have, and two processes what one would.

    Differs from the authors' code in precision under autocast and in where the draw comes from.

    Args:
        length: number of entries; about half of the images at most, as all entries of the same image are excluded.
        dims: size of a projection.
        num_neighbors: k.
    """

    def __init__(self, length: int, dims: int, num_neighbors: int = 1) -> None:
        super().__init__()
        if not 1 <= num_neighbors <= length:
            raise ValueError(f'num_neighbors={num_neighbors} of a queue of {length}; choose 1 to {length}')
        self.num_neighbors = num_neighbors
        self.register_buffer('features', torch.randn(length, dims))
        self.register_buffer('ids', torch.full((length, ), NO_ID))
        self.register_buffer('labels', torch.full((length, ), NO_ID))
        self.register_buffer('ages', torch.zeros(length, dtype=torch.int64))
        self.register_buffer('pushed', torch.zeros((), dtype=torch.int64))
        self.register_buffer('seed', torch.randint(LARGEST, ()))
        self._agreed = False

    @torch.no_grad()
    def find(self, x: Tensor, ids: Tensor) -> Neighbors:
        """A neighbor for each projection (V·B, D), view by view, of the images ``ids`` (B,)."""
        if self.training:
            self._agree()
        views = len(x) // len(ids)
        with torch.autocast(x.device.type, enabled=False):
            similarity = F.normalize(x.to(self.features.dtype)) @ F.normalize(self.features).T  # (V·B, Q)
        if self.training:
            similarity.masked_fill_(ids.repeat(views)[:, None] == self.ids, -1)
        candidates = similarity.topk(self.num_neighbors).indices
        positions = candidates.gather(1, self.draw(ids, views)[:, None]).squeeze(1)
        return Neighbors(self.features[positions], self.labels[positions], positions, candidates)

    def draw(self, ids: Tensor, views: int) -> Tensor:
        """Which of the candidates each of ``views`` · B rows takes, (V·B,) in 0…k−1."""
        view = torch.arange(views, device=ids.device).repeat_interleave(len(ids))
        return draw_below(self.num_neighbors, self.seed, self.pushed, view, ids.repeat(views))

    @torch.no_grad()
    def push(self, x: Tensor, ids: Tensor, labels: Tensor | None = None) -> None:
        """Put projections (B, D) of all processes, with ids and classes (B,), over the oldest; not in evaluation."""
        if not self.training:
            return
        labels = torch.full_like(ids, NO_ID) if labels is None else labels
        length = len(self.features)
        new = [gather(part) for part in (x, ids, labels)]
        count = len(new[0])
        kept = slice(max(count - length, 0), None)
        positions = (self.pushed + torch.arange(count, device=x.device)[kept]) % length
        for buffer, part in zip((self.features, self.ids, self.labels), new):
            buffer[positions] = part[kept].to(buffer.dtype)
        self.ages[positions] = 0
        self.ages += count
        self.pushed += count

    def _agree(self) -> None:
        """Copy the main process's queue, once per process."""
        if not self._agreed and get_world_size() > 1:
            for buffer in self.buffers():
                broadcast(buffer, 0)
        self._agreed = True
