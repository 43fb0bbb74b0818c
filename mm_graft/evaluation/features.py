"""Frozen features of a backbone: one vector an image, with its label."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import is_main_process
from torch import Tensor, nn
from tqdm import tqdm

from mm_graft.depth import unwrap
from mm_graft.encoders import encode_full, out_type_of
from mm_graft.evaluation.layer_features import LAYER_POOLS

POOLS = ('cls', 'avg', *LAYER_POOLS)


def backbone_of(model: nn.Module) -> nn.Module:
    """The encoder of an algorithm, a classifier or a segmentor (``model.backbone``), or the model itself."""
    model = unwrap(model)
    return model.backbone if isinstance(getattr(model, 'backbone', None), nn.Module) else model


def encode(backbone: nn.Module, images: Tensor, pool: str = 'cls') -> Tensor:
    """Features (B, D) of images (B, 3, H, W) that are already normalised; the backbone hides no patches.

    Args:
        backbone: an encoder of mmpretrain or this package, or timm's in ``TIMMBackbone``.
        images: a batch on the backbone's device.
        pool: ``'cls'`` for the class token after the final norm, ``'avg'`` for the mean over the patches, or what
            several blocks give, see :mod:`mm_graft.evaluation.layer_features`.

    Raises:
        ValueError: an unknown ``pool``, or the backbone has no class token.
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


def labels_of(data_samples: Iterable) -> Tensor:
    """Labels (B,) of data samples.

    Raises:
        ValueError: a sample has no single label.
    """
    labels = [getattr(sample, 'gt_label', None) for sample in data_samples]
    if any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            'the data have no labels (`gt_label`), or several an image; with one folder a class, '
            '--cfg-options train_dataloader.dataset.with_label=True reads them')
    return torch.cat([label.reshape(1) for label in labels]).cpu()


def feature_batches(
    model: nn.Module, dataloader: Iterable, pool: str = 'cls', device: torch.device | str | None = None,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B, D) in float32 and labels (B,), batch by batch, on the device; see :func:`extract_features`."""
    model = unwrap(model)
    device = torch.device(device) if device else next(model.parameters()).device
    backbone = backbone_of(model)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda')
    with _evaluating(backbone):
        for batch in tqdm(dataloader, 'features', unit='batch', disable=not (progress and is_main_process())):
            with torch.no_grad(), mixed:
                images, labels = unpack_batch(model, batch, device)
                features = encode(backbone, images, pool)
            yield features.float(), labels


def extract_features(
    model: nn.Module, dataloader: Iterable, pool: str = 'cls', device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """Features (N, D) in float32 and labels (N,), on the CPU, in the order of the loader.

    On a GPU the encoder runs in bf16. Its mode (train or eval) is put back afterwards.

    Args:
        model: an algorithm, a classifier, or a bare backbone.
        dataloader: gives host batches (``inputs`` and ``data_samples``, normalised by the model's data preprocessor if
            it has one) or pairs of ready images (B, 3, H, W) and labels (B,).
        pool: ``'cls'`` or ``'avg'``, see :func:`encode`.
        device: where the encoder is; without it, where its parameters are.
        progress: show a bar with the time left.

    Raises:
        ValueError: no images, no labels, several views an image, or a pool that the backbone does not have.
    """
    features, labels = [], []
    for batch_features, batch_labels in feature_batches(model, dataloader, pool, device, progress):
        features.append(batch_features.cpu())
        labels.append(batch_labels)
    if not features:
        raise ValueError('the data loader gives no images; check the data root, the prefix and the file endings')
    return torch.cat(features), torch.cat(labels)


def unpack_batch(model: nn.Module, batch: object, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W), normalised, on the device, and labels (B,) of a batch as :func:`extract_features` takes it.

    Raises:
        ValueError: several views an image, or no labels.
    """
    if not isinstance(batch, dict):
        images, labels = batch
        return images.to(device), labels.cpu()
    preprocessor = getattr(model, 'data_preprocessor', None)
    if isinstance(preprocessor, nn.Module):
        batch = preprocessor(batch, False)
    images = batch['inputs']
    if isinstance(images, list | tuple):
        if not all(isinstance(image, Tensor) and image.ndim == 3 for image in images):
            raise ValueError('the data give several views an image; evaluate with a test pipeline of one view')
        images = torch.stack(list(images))
    images = images if images.is_floating_point() else images.float()
    return images.to(device), labels_of(batch['data_samples'])


@contextmanager
def _evaluating(backbone: nn.Module) -> Iterator[None]:
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
        return output[:, 0] if pool == 'cls' else output[:, extra:].mean(1)  # (B, N, D) → (B, D)
    if output.ndim == 2:
        return output
    raise ValueError(
        f'{type(backbone).__name__} gives a feature map {tuple(output.shape)} and no class token; use pool=\'avg\'')
