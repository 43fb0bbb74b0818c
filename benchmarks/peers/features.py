"""Frozen features: extracting them, kNN and the linear probe, beside lightly, stable-pretraining and mmpretrain."""

from collections.abc import Callable

import torch
from lightly.utils.benchmarking.knn import knn_predict as lightly_knn
from mmengine.registry import MODELS
from stable_pretraining.callbacks.knn import OnlineKNN
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers import torch_parts
from benchmarks.peers.contest import OURS, Entry, Size
from benchmarks.peers.lightly_parts import NAME as LIGHTLY
from benchmarks.peers.ours import HOST
from benchmarks.peers.stable import NAME as STABLE
from benchmarks.table import WIDTHS
from mm_graft.evaluation.features import encode
from mm_graft.evaluation.knn import knn_predict
from mm_graft.evaluation.linear_probe import sweep_grid
from mm_graft.evaluation.linear_sweep import LinearSweep

CLASSES, NEIGHBORS, TEMPERATURE = 100, 20, 0.07
BANK, QUERIES, ROWS = 20000, 1000, 2048


def entries(method: str, size: Size) -> list[Entry]:
    """The programs of ``'extraction'``, ``'kNN'`` or ``'linear probe'``."""
    torch.manual_seed(0)
    return {'extraction': extraction, 'kNN': knn, 'linear probe': linear_probe}[method](size)


def extraction(size: Size) -> list[Entry]:
    """The class token of a batch of images that is there."""
    width, heads = WIDTHS[size.width]
    arch = dict(embed_dims=width, num_layers=size.blocks, num_heads=heads, feedforward_channels=4 * width)
    settings = dict(arch=arch, img_size=size.side, patch_size=16)
    ours = MODELS.build(dict(type='mm_graft.GraftViT', **settings)).eval()
    host = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='VisionTransformer', **settings))).eval()
    timms, batch = torch_parts.vit(size).eval(), torch_parts.images(size)
    return [Entry(OURS, '', torch.no_grad()(lambda: encode(ours, batch))),
            Entry(HOST, '', torch.no_grad()(lambda: host.extract_feat(batch))),
            Entry(f"{LIGHTLY} and {STABLE} (timm's ViT)", '', torch.no_grad()(lambda: timms(batch)))]


def knn(size: Size) -> list[Entry]:
    """Classes of a thousand features by their neighbors among twenty thousand."""
    width = WIDTHS[size.width][0]
    bank, queries = (F.normalize(torch.randn(count, width), dim=1) for count in (BANK, QUERIES))
    labels = torch.randint(0, CLASSES, (BANK, ))
    stable = OnlineKNN('knn', 'features', 'labels', BANK, {}, width, num_classes=CLASSES, k=NEIGHBORS,
                       temperature=TEMPERATURE, distance_metric='cosine')
    return [Entry(OURS, '', lambda: knn_predict(bank, labels, queries, [NEIGHBORS], TEMPERATURE, CLASSES)),
            Entry(LIGHTLY, '', lambda: lightly_knn(queries, bank.T, labels, CLASSES, NEIGHBORS, TEMPERATURE)),
            Entry(STABLE, '', lambda: stable._compute_knn_predictions(queries, bank, labels))]


def linear_probe(size: Size) -> list[Entry]:
    """One pass over some rows, for all heads of the grid; the peers train one ``nn.Linear`` a run."""
    width, grid = WIDTHS[size.width][0], sweep_grid()
    features, labels = torch.randn(ROWS, width), torch.randint(0, CLASSES, (ROWS, ))
    sweep = LinearSweep(width, CLASSES, *zip(*grid))
    heads = [nn.Linear(width, CLASSES) for _ in grid]
    optimizers = [torch.optim.SGD(head.parameters(), rate, weight_decay=decay)
                  for head, (rate, decay) in zip(heads, grid)]
    batches = list(zip(features.split(512), labels.split(512)))
    return [Entry(OURS, '', lambda: [sweep.step(*batch) for batch in batches]),
            Entry(f'PyTorch, {len(grid)} heads one by one', '', lambda: one_by_one(heads, optimizers, batches))]


def one_by_one(heads: list[nn.Module], optimizers: list, batches: list[tuple[Tensor, Tensor]]) -> None:
    """A pass of SGD over the batches for each head."""
    for head, optimizer in zip(heads, optimizers):
        for features, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(head(features), labels).backward()
            optimizer.step()


FEATURE_ROWS: dict[str, Callable[[Size], list[Entry]]] = {
    'extraction': extraction, 'kNN': knn, 'linear probe': linear_probe}
