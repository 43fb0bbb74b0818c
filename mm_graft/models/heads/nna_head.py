"""MIM-Refiner's head: projector, predictor and queue on the features of one block."""

from collections.abc import Sequence
from itertools import pairwise

from mmpretrain.models.utils import build_norm_layer
from torch import Tensor, nn

from mm_graft.registry import MODELS

SYNC_BN = {'type': 'SyncBN'}


def mlp(widths: Sequence[int], norm_cfg: dict) -> nn.Sequential:
    """Linear layers without bias, Xavier-uniform, each with batch norm; GELU after all but the last."""
    layers = []
    for index, (before, after) in enumerate(pairwise(widths)):
        linear = nn.Linear(before, after, bias=False)
        nn.init.xavier_uniform_(linear.weight)
        end = [] if index == len(widths) - 2 else [nn.GELU()]
        layers.append(nn.Sequential(linear, build_norm_layer(norm_cfg, after), *end))
    return nn.Sequential(*layers)


@MODELS.register_module()
class NNAHead(nn.Module):
    """Aligns the views of an image with the neighbor that another view has in a queue.

    The predictions of all views learn; projections and neighbors of the global views are their targets, without
    gradient (there is no momentum encoder). All views of a batch, global and local, go through projector and
    predictor as one batch: batch norm mixes them. The queue is asked before it is fed, and fed with view 0 alone.
    ``ml-jku/MIM-Refiner@cc574235995e`` (``models/ssl/nnclr_head.py``); parameters have its names.

    One difference: the shift of the projector's last batch norm does not train. A linear layer without bias and batch
    norm follow it, so its gradient is exactly zero; Adam would make full steps of what rounding leaves of it, and the
    targets would wander.

    Args:
        in_channels: width of the encoder.
        loss: of projections, neighbors and predictions, ``mm_graft.NNALoss``.
        queue: ``mm_graft.SupportQueue`` without its ``dims``.
        hid_channels: width of both hidden layers of the projector.
        out_channels: size of a projection.
        predictor_channels: width of the predictor's hidden layer.
        norm_cfg: of the batch norm; ``BN1d`` takes statistics of each process alone.
    """

    def __init__(self, in_channels: int, loss: dict, queue: dict, hid_channels: int = 2048, out_channels: int = 256,
                 predictor_channels: int = 4096, norm_cfg: dict = SYNC_BN) -> None:
        super().__init__()
        self.projector = mlp((in_channels, hid_channels, hid_channels, out_channels), norm_cfg)
        self.projector[-1][-1].bias.requires_grad_(False)
        self.predictor = mlp((out_channels, predictor_channels, out_channels), norm_cfg)
        self.queue = MODELS.build({**queue, 'dims': out_channels})
        self.loss_module = MODELS.build(loss)

    def loss(self, features: Tensor, ids: Tensor, num_global: int, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The term ``loss``, and if there are labels (B,) ``acc_neighbor``.

        ``features`` (V·B, in_channels) are all images of view 0, of view 1, …, the G global views first; ``ids`` (B,)
        say which images they are. ``acc_neighbor`` is the percentage of global views whose neighbor is of the same
        class; what the queue was filled with at the start counts as another.
        """
        count = len(ids)
        projections = self.projector(features)
        predictions = self.predictor(projections)
        targets = projections.detach()[:num_global * count]
        neighbors = self.queue.find(targets, ids)
        self.queue.push(targets[:count], ids, labels)
        # (V·B, D) → (V, B, D)
        by_view = [x.unflatten(0, (-1, count)) for x in (targets, neighbors.features, predictions)]
        terms = {'loss': self.loss_module(*by_view)}
        if labels is not None:
            terms['acc_neighbor'] = 100 * (neighbors.labels == labels.repeat(num_global)).float().mean()
        return terms
