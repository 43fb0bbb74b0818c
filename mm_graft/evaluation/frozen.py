"""What an evaluation works on: encoder, data sets, and their features, extracted when first asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from mmengine.config import Config
from torch.utils.data import Dataset

from mm_graft.encoders import Encoder, load_encoder
from mm_graft.evaluation.cache import FeatureCache, Features, cache_key, sha256_of_dataset, sha256_of_file
from mm_graft.evaluation.datasets import build_datasets, class_names, image_names
from mm_graft.evaluation.layer_features import drop_final_norm
from mm_graft.evaluation.protocols import FrozenData, ProtocolSettings
from mm_graft.evaluation.readable import make_loader


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        protocols: names out of ``PROTOCOLS``.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder of a contrastive checkpoint.
        pool: ``'cls'`` or ``'avg'``.
        final_norm: features after the encoder's final norm; False: as they leave the last block.
        batch_size: images encoded at once.
        workers: processes that read images.
        device: of the encoder and the protocols.
        cache: folder of the features.
        strict: an unreadable image is an error.
        protocol: settings of the protocols.
        blocks: probe-depth: the blocks b; half, three quarters and all of them without.
        new_blocks: probe-depth: the numbers n of new blocks behind b.
        probe_epochs: probe-depth: epochs with n > 0.
        finetune_recipe: fewshot-10: config such as ``configs/eval/fewshot10_vit-b.py``.
        finetune_epochs: fewshot-10: epochs instead of the recipe's.
        finetune_list: fewshot-10: file with the images; without it a class-balanced 10 % is drawn.
    """

    protocols: Sequence[str] = ('knn', 'linear', 'fewshot-1')
    branch: str = 'base'
    pool: str = 'cls'
    final_norm: bool = True
    batch_size: int = 256
    workers: int = 2
    device: str = 'cpu'
    cache: str = 'work_dirs/features'
    strict: bool = False
    protocol: ProtocolSettings = field(default_factory=ProtocolSettings)
    blocks: tuple[int, ...] = ()
    new_blocks: tuple[int, ...] = (0, 1)
    probe_epochs: int = 20
    finetune_recipe: str | None = None
    finetune_epochs: int | None = None
    finetune_list: str | None = None


def features_key(
    cfg: Config, encoder: Encoder, dataset: Dataset, checkpoint_sha256: str, settings: EvaluationSettings,
) -> str:
    """Key of everything that the features of a data set depend on."""
    preprocessor = encoder.data_preprocessor
    return cache_key(
        weights=checkpoint_sha256, branch=settings.branch, backbone=cfg.model.backbone.to_dict(), pool=settings.pool,
        final_norm=settings.final_norm, data=sha256_of_dataset(dataset),
        transform=repr(getattr(dataset, 'pipeline', None)),
        normalisation=[preprocessor.to_rgb, *(getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std')
                                              if hasattr(preprocessor, name))],
        device=torch.device(settings.device).type)


def frozen_features(key: str, encoder: Encoder, dataset: Dataset, settings: EvaluationSettings) -> Features:
    """Features of a data set, from the cache or extracted into it."""
    cache = FeatureCache(settings.cache)
    found = cache.load(key)
    if found is not None and not (settings.strict and found.unreadable):
        return found
    return cache.extract(key, encoder, dataset, settings.pool, make_loader(settings.batch_size, settings.workers),
                         settings.strict)


def frozen_data(
    train_set: Dataset, train: Features, test: Features, num_classes: int, device: str,
) -> FrozenData:
    """Features of both sets on a device.

    Raises:
        ValueError: a class has no training image.
    """
    num_classes = max(num_classes, int(train.labels.max()) + 1, int(test.labels.max()) + 1)
    missing = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
    if missing:
        raise ValueError(f'classes {missing[:10]} have test but no training images; give training images of each class')
    names = image_names(train_set)
    return FrozenData(
        train.features.to(device), train.labels.to(device), test.features.to(device), test.labels.to(device),
        num_classes, [names[index] for index in train.indices.tolist()])


@dataclass
class Evaluation:
    """One encoder on one pair of data sets.

    Attributes:
        cfg: the config.
        checkpoint: the file.
        settings: what is evaluated, and how.
        encoder: with the checkpoint's weights, on the device.
        sets: training and test set, both with the test transform.
        sha256: of the checkpoint.
    """

    cfg: Config
    checkpoint: str
    settings: EvaluationSettings
    encoder: Encoder
    sets: tuple[Dataset, Dataset]
    sha256: str

    @cached_property
    def keys(self) -> list[str]:
        """Keys of the features of both sets."""
        return [features_key(self.cfg, self.encoder, dataset, self.sha256, self.settings) for dataset in self.sets]

    @cached_property
    def features(self) -> list[Features]:
        """Features of both sets."""
        return [frozen_features(key, self.encoder, dataset, self.settings)
                for key, dataset in zip(self.keys, self.sets)]

    @cached_property
    def data(self) -> FrozenData:
        """Features of both sets as the protocols take them."""
        return frozen_data(self.sets[0], *self.features, len(class_names(self.sets[0])), self.settings.device)


def begin(cfg: Config, checkpoint: str, settings: EvaluationSettings) -> Evaluation:
    """Build encoder and data sets and load the checkpoint; nothing is extracted yet.

    Raises:
        ValueError: the config, the checkpoint or the data do not fit.
    """
    encoder = load_encoder(cfg, checkpoint, settings.branch)
    if not settings.final_norm:
        drop_final_norm(encoder.backbone)
    return Evaluation(cfg, checkpoint, settings, encoder.to(settings.device), build_datasets(cfg),
                      sha256_of_file(checkpoint))
