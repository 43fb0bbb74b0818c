"""The state of an evaluation: encoder, data sets, and their features, extracted lazily."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from logging import WARNING
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, barrier, broadcast_object_list, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from mm_graft.checkpoints.reading import parts_of
from mm_graft.encoders import Encoder, load_encoder
from mm_graft.evaluation.cache import Features, cache_key, load_features, save_features, sha256_of_dataset
from mm_graft.evaluation.datasets import (
    build_datasets,
    build_test_set,
    check_two_classes,
    class_names,
    image_names,
)
from mm_graft.evaluation.features import encode_batches
from mm_graft.evaluation.layer_features import drop_final_norm
from mm_graft.evaluation.protocols import FrozenData, ProtocolSettings
from mm_graft.evaluation.reading import read_images
from mm_graft.evaluation.shared_images import warn_of_shared
from mm_graft.files import sha256_of_file
from mm_graft.spelling import named, some_of

LEARN_NOTHING = ('zero-shot', )


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation."""

    protocols: Sequence[str] = ('knn', 'linear', 'fewshot-1')  #: names out of ``PROTOCOLS``
    branch: str = 'base'  #: ``'base'``, or ``'momentum'`` for the momentum encoder of a contrastive checkpoint
    resize: bool = False  #: interpolate the checkpoint's positions to the config's image size
    pool: str = 'cls'  #: ``'cls'`` or ``'avg'``
    final_norm: bool = True  #: features after the encoder's final norm; False: as they leave the last block
    batch_size: int = 256  #: images encoded at once
    workers: int = 2  #: processes that read images
    device: str = 'cpu'  #: of the encoder and the protocols
    cache: str = 'work_dirs/features'  #: folder of the features and the scores
    strict: bool = False  #: a bad image is an error
    protocol: ProtocolSettings = field(default_factory=ProtocolSettings)
    blocks: tuple[int, ...] = ()  #: probe-depth: after which blocks; half, three quarters and all of them without

    @property
    def learns(self) -> bool:
        """Whether a protocol needs training images."""
        return any(name not in LEARN_NOTHING for name in self.protocols)


def extract_features(folder: Path, encoder: Encoder, dataset: Dataset, settings: EvaluationSettings) -> None:
    """Encode a data set, each process its share, and keep the features in a folder that all processes see."""
    rows = range(get_rank(), len(dataset), get_world_size())
    batches = read_images(dataset, rows, settings.batch_size, settings.workers, settings.strict)
    parts, bad = [], []
    for features, labels, batch in encode_batches(encoder, batches, settings.pool, progress=True):
        bad += batch.bad
        if len(labels):
            parts.append((features.cpu(), labels, batch.indices))
    bad = sorted(image for share in all_gather_object(bad) for image in share)
    if len(bad) == len(dataset):
        raise ValueError(f'none of {len(dataset)} images can be used; first {bad[0].name}: {bad[0].reason}')
    found = _gather(folder, parts)
    if is_main_process():
        save_features(folder, *found, bad)
    barrier()


def _gather(folder: Path, parts: list[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor] | None:
    """Features, labels and indices of all processes, by index, on the main one; through files beside ``folder``."""
    if get_world_size() > 1:
        folder.parent.mkdir(parents=True, exist_ok=True)
        files = [folder.with_name(f'{folder.name}.share{rank}.npz') for rank in range(get_world_size())]
        np.savez(files[get_rank()], *(torch.cat(column).numpy() for column in zip(*parts)))
        barrier()
        if not is_main_process():
            return None
        shares = [np.load(file) for file in files]
        parts = [tuple(torch.from_numpy(share[name]) for name in share.files) for share in shares if share.files]
        for file in files:
            file.unlink()
    columns = [torch.cat(column) for column in zip(*parts)]
    order = columns[2].argsort()
    return [column[order] for column in columns]


@dataclass
class Evaluation:
    """One encoder on one pair of data sets."""

    cfg: Config
    settings: EvaluationSettings
    encoder: Encoder  #: with the checkpoint's weights, on the device
    #: training and test set, both with the test transform; the test set alone if no protocol learns
    sets: tuple[Dataset, ...]
    sha256: str  #: of the checkpoint, and of what was done to the encoder since
    checkpoint: str

    def folder(self, dataset: Dataset) -> Path:
        """Where the features of a data set are kept: named by everything that they depend on."""
        preprocessor, settings = self.encoder.data_preprocessor, self.settings
        statistics = [getattr(preprocessor, name, torch.zeros(0)).flatten().tolist() for name in ('mean', 'std')]
        return Path(settings.cache, cache_key(
            weights=self.sha256, branch=settings.branch, backbone=self.cfg.model.backbone.to_dict(), pool=settings.pool,
            final_norm=settings.final_norm, data=sha256_of_dataset(dataset),
            transform=repr(getattr(dataset, 'pipeline', None)),
            normalization=[preprocessor.to_rgb, *statistics], device=torch.device(settings.device).type))

    @cached_property
    def features(self) -> list[Features]:
        """Features of the sets, from the cache or extracted into it; a collective call."""
        return [self._features(dataset) for dataset in self.sets]

    def _features(self, dataset: Dataset) -> Features:
        folder = self.folder(dataset)
        found = load_features(folder, len(dataset)) if is_main_process() else None
        usable = [found is not None and not (self.settings.strict and found.bad)]
        broadcast_object_list(usable)
        if not usable[0]:
            extract_features(folder, self.encoder, dataset, self.settings)
        if found is None or not usable[0]:
            found = load_features(folder, len(dataset))
        if found.bad and is_main_process():
            named = some_of([f'{image.name}: {image.reason}' for image in found.bad], 3, '; ')
            print_log(f'{len(found.bad)} of {len(dataset)} images cannot be used and are left out: {named}',
                      logger='current', level=WARNING)
        return found if usable[0] else replace(found, from_cache=False)

    @cached_property
    def data(self) -> FrozenData:
        """Features of both sets as the protocols take them."""
        train, test = self.features
        classes = class_names(self.sets[0])
        missing = sorted(set(test.labels.tolist()) - set(train.labels.tolist()))
        if missing:
            raise ValueError(f'classes {named(missing[:10], classes)} have test but no training images; give training '
                             'images of each class')
        check_two_classes(train.labels.tolist())
        num_classes = max(len(classes), int(train.labels.max()) + 1)
        names = image_names(self.sets[0])
        tensors = (tensor.to(self.settings.device) for part in (train, test) for tensor in (part.features, part.labels))
        return FrozenData(*tensors, num_classes, [names[index] for index in train.indices.tolist()], classes)


def prepare(cfg: Config, checkpoint: str, settings: EvaluationSettings) -> Evaluation:
    """Load the encoder and build the data sets; nothing is extracted yet."""
    encoder = load_encoder(cfg, checkpoint, settings.branch, settings.resize)
    if not settings.final_norm:
        drop_final_norm(encoder.backbone)
    sets = build_datasets(cfg) if settings.learns else (build_test_set(cfg), )
    if settings.learns and is_main_process():
        warn_of_shared(*sets)
    return Evaluation(cfg, settings, encoder.to(settings.device), sets, sha256_of_file(*parts_of(checkpoint)),
                      checkpoint)
