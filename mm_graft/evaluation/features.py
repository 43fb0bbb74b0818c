"""Frozen features of a backbone: one vector an image, with its label."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from torch import Tensor, nn
from torch.utils.data import Dataset

from mm_graft.encoders import Encoder, encode_full, out_type_of, patch_projection
from mm_graft.evaluation.layer_features import LAYER_POOLS
from mm_graft.evaluation.reading import ImageBatch, read_images
from mm_graft.precision import has_bfloat16
from mm_graft.progress import Progress

POOLS = ('cls', 'avg', *LAYER_POOLS)


def encode(backbone: nn.Module, images: Tensor, pool: str = 'cls') -> Tensor:
    """Features (B, D) of images (B, C, H, W) that are already normalized; the backbone hides no patches.

    Args:
        backbone: an encoder of mmpretrain or this package, or timm's in ``TIMMBackbone``.
        images: a batch on the backbone's device.
        pool: ``'cls'`` for the class token after the final norm, ``'avg'`` for the mean over the patches, or what
            several blocks give, see :mod:`mm_graft.evaluation.layer_features`.
    """
    if pool not in POOLS:
        raise ValueError(f'pool={pool!r} is unknown; choose one of {POOLS}')
    if pool in LAYER_POOLS:
        return LAYER_POOLS[pool](backbone, images)
    if pool == 'cls' and (getattr(backbone, 'cls_token', ...) is None or not getattr(backbone, 'with_cls_token', True)):
        raise ValueError(f"{type(backbone).__name__} has no class token here; use pool='avg'")
    timm_model = getattr(backbone, 'timm_model', None)
    if hasattr(timm_model, 'forward_features'):
        return _pooled(encode_full(timm_model, images), timm_model, pool)
    averaged = getattr(backbone, 'out_type', None) == 'avg_featmap'
    with out_type_of(backbone, 'cls_token' if pool == 'cls' else 'avg_featmap' if averaged else 'featmap'):
        return _pooled(encode_full(backbone, images), backbone, pool)


def encode_batches(
    encoder: Encoder, batches: Iterable[ImageBatch], pool: str = 'cls', progress: bool = False,
) -> Iterator[tuple[Tensor, Tensor, ImageBatch]]:
    """Features (B, D) in float32 on the encoder's device, labels (B,) on the CPU, and the batch that they are of.

    On a GPU that has bf16 the encoder runs in it. Its mode (train or eval) is put back afterwards. Of a batch without
    images come 0 features.
    """
    device = next(encoder.parameters()).device
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda' and has_bfloat16('cuda'))
    with evaluating(encoder.backbone):
        for batch in Progress(batches, 'features', unit='batch', disable=not (progress and is_main_process())):
            if not batch.inputs:
                yield torch.zeros(0, 0, device=device), torch.zeros(0, dtype=torch.long), batch
                continue
            with torch.no_grad(), mixed:
                features = encode(encoder.backbone, normalized_images(encoder, batch).to(device), pool)
            yield features.float(), labels_of(batch.data_samples), batch


def encode_together(
    encoder: Encoder, dataset: Dataset, indices: Sequence[int], pool: str, batch_size: int, workers: int,
    progress: bool = False, draws: tuple[int, ...] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and labels of different images, in their order, on every process; each encodes its share of them.

    With ``draws`` (see :class:`mm_graft.evaluation.reading.IndexedImages`) they do not depend on how many those are.
    """
    device = next(encoder.parameters()).device
    rank, world = get_rank(), get_world_size()
    places = {index: place for place, index in enumerate(indices)}
    loader = read_images(dataset, indices[rank::world], batch_size, workers, draws=draws)
    batches = ((features.cpu(), labels, batch.indices) for features, labels, batch in
               encode_batches(encoder, loader, pool, progress))
    nothing = torch.zeros(0, 0), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    for _ in range(ceil(ceil(len(indices) / world) / batch_size)):
        share = next(batches, nothing)
        shares = [found for found in (all_gather_object(share) if world > 1 else [share]) if len(found[1])]
        if shares:
            features, labels, found = (torch.cat(column) for column in zip(*shares))
            order = torch.tensor([places[index] for index in found.tolist()]).argsort()
            yield features[order].to(device), labels[order].to(device)


def normalized_images(encoder: Encoder, batch: ImageBatch) -> Tensor:
    """Images (B, C, H, W) of a batch as the backbone expects them."""
    if not all(isinstance(image, Tensor) and image.ndim == 3 for image in batch.inputs):
        raise ValueError('the data give several views an image; evaluate with a test pipeline of one view')
    try:
        wanted = patch_projection(encoder.backbone).in_channels
    except AttributeError:  # an encoder that embeds no patches
        wanted = len(batch.inputs[0])
    if len(batch.inputs[0]) != wanted:
        raise ValueError(f'the images have {len(batch.inputs[0])} channels and the encoder {wanted}; load them with '
                         f'color_type={"grayscale" if wanted == 1 else "color"!r}, or give the config of this encoder')
    images = encoder.data_preprocessor({'inputs': batch.inputs}, False)['inputs']
    return torch.stack(list(images)).float() if isinstance(images, list | tuple) else images.float()


def labels_of(data_samples: Iterable) -> Tensor:
    """Labels (B,) of data samples."""
    labels = [getattr(sample, 'gt_label', None) for sample in data_samples]
    if any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            'the data have no labels (`gt_label`), or several an image; with one folder a class, '
            '--cfg-options train_dataloader.dataset.with_label=True reads them')
    return torch.cat([label.reshape(1) for label in labels]).cpu()


def check_features(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, num_classes: int | None = None,
) -> int:
    """Check that features (N, D) and labels (N,) of two sets fit each other, and return the number of classes.

    Classes count from 0; without ``num_classes`` the largest label says how many there are.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(train) or not len(test):
        raise ValueError(
            f'training features {tuple(train.shape)} and test features {tuple(test.shape)}; give (N, D) and (M, D)')
    if len(train) != len(train_labels) or len(test) != len(test_labels):
        raise ValueError(
            f'{len(train)} training and {len(test)} test features, {len(train_labels)} and {len(test_labels)} labels; '
            'give one label each')
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError('features are NaN or infinite; is the checkpoint corrupt?')
    labels = torch.cat([train_labels.cpu(), test_labels.cpu()])
    num_classes = num_classes or int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f'labels go from {int(labels.min())} to {int(labels.max())}, outside the {num_classes} classes 0 to '
            f'{num_classes - 1}; pass the right num_classes, or images with labels')
    return num_classes


@contextmanager
def evaluating(backbone: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module, frozen ones too, has the mode that it had."""
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _pooled(output: Tensor, backbone: nn.Module, pool: str) -> Tensor:
    if output.ndim == 4 and pool == 'avg':
        return output.mean((2, 3))  # (B, D, H, W) → (B, D)
    if output.ndim == 3:
        extra = getattr(backbone, 'num_extra_tokens', getattr(backbone, 'num_prefix_tokens', 1))
        if pool == 'cls' and not extra:
            raise ValueError(f"{type(backbone).__name__} has no class token here; use pool='avg'")
        return output[:, 0] if pool == 'cls' else output[:, extra:].mean(1)  # (B, N, D) → (B, D)
    if output.ndim == 2:
        return output
    raise ValueError(
        f'{type(backbone).__name__} gives a feature map {tuple(output.shape)} and no class token; use pool=\'avg\'')
