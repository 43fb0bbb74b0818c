"""One call from a config and a checkpoint to the numbers of all protocols on frozen features."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.utils.data import Dataset

from mm_graft.checkpoints import load_backbone
from mm_graft.evaluation.cache import FeatureCache, Features, cache_key, sha256_of_dataset, sha256_of_file
from mm_graft.evaluation.datasets import build_datasets, class_names, image_names
from mm_graft.evaluation.protocols import FROZEN_PROTOCOLS, FrozenData, ProtocolSettings
from mm_graft.evaluation.readable import make_loader
from mm_graft.evaluation.report import plot_report, report_table, write_json
from mm_graft.version import __version__


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        protocols: names out of ``PROTOCOLS``.
        branch: ``'base'``, or ``'momentum'`` for the slowly moving encoder of a contrastive checkpoint.
        pool: ``'cls'`` or ``'avg'``.
        batch_size: images encoded at once.
        workers: processes that read images.
        device: of the encoder and the protocols.
        cache: folder of the features.
        strict: an unreadable image is an error.
        protocol: settings of the protocols.
    """

    protocols: Sequence[str] = ('knn', 'linear', 'fewshot-1')
    branch: str = 'base'
    pool: str = 'cls'
    batch_size: int = 256
    workers: int = 2
    device: str = 'cpu'
    cache: str = 'work_dirs/features'
    strict: bool = False
    protocol: ProtocolSettings = field(default_factory=ProtocolSettings)


class FrozenEncoder(nn.Module):
    """A backbone behind the normalisation of a config, which is all that frozen features need of an algorithm.

    Args:
        backbone: config of the encoder.
        data_preprocessor: config of the algorithm's preprocessor; only its mean, std and channel order are used.
    """

    def __init__(self, backbone: dict, data_preprocessor: dict | None = None) -> None:
        super().__init__()
        self.backbone = MODELS.build({**backbone, 'init_cfg': None} if 'init_cfg' in backbone else backbone)
        known = data_preprocessor or {}
        self.data_preprocessor = MODELS.build(dict(
            type='mmpretrain.ClsDataPreprocessor', mean=known.get('mean'), std=known.get('std'),
            to_rgb=bool(known.get('to_rgb', known.get('bgr_to_rgb', False)))))


def build_encoder(cfg: Config) -> FrozenEncoder:
    """The encoder of a config, untrained.

    Raises:
        ValueError: the config has no backbone.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    backbone = cfg.get('model', {}).get('backbone')
    if backbone is None:
        raise ValueError('the config has no `model.backbone`; give a pre-training or classification config')
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    return FrozenEncoder(backbone.to_dict(), preprocessor)


def evaluate(cfg: Config, checkpoint: str, settings: EvaluationSettings, out: str | Path | None = None) -> dict | None:
    """Run protocols; returns the report, on the main process only.

    Args:
        cfg: a config with ``model.backbone`` and data sets, see :mod:`mm_graft.evaluation.datasets`.
        checkpoint: a file of any known layout.
        settings: what is evaluated, and how.
        out: folder for ``report.json``, ``report.txt`` and ``report.png``; written last, each complete or not at all.

    Raises:
        ValueError: an unknown protocol, or data or a checkpoint that does not fit; before anything is extracted where
            that can be known.
    """
    start = time.perf_counter()
    unknown = [name for name in settings.protocols if name not in FROZEN_PROTOCOLS]
    if unknown or not settings.protocols:
        raise ValueError(f'protocols {unknown} are unknown; choose from {list(FROZEN_PROTOCOLS)}')
    encoder = build_encoder(cfg)
    load_backbone(encoder.backbone, checkpoint, branch=settings.branch)
    encoder.to(settings.device)
    sets = build_datasets(cfg)
    sha256 = sha256_of_file(checkpoint)
    keys = [features_key(cfg, encoder, dataset, sha256, settings) for dataset in sets]
    train, test = (frozen_features(key, encoder, dataset, settings) for key, dataset in zip(keys, sets))
    if not is_main_process():
        return None
    extracted = time.perf_counter()
    data = frozen_data(sets[0], train, test, len(class_names(sets[0])), settings.device)
    results = {name: protocol_result(name, data, keys, settings) for name in settings.protocols}
    report = {
        'protocols': results, 'checkpoint': str(checkpoint), 'checkpoint_sha256': sha256, 'branch': settings.branch,
        'pool': settings.pool, 'unit': 'percent',
        'data': {'train': describe(sets[0], train), 'test': describe(sets[1], test)},
        'seconds': time.perf_counter() - start, 'seconds_features': extracted - start,
        'device': settings.device, 'torch': torch.__version__}
    if out is not None:
        save(report, out)
    return report


def features_key(
    cfg: Config, encoder: FrozenEncoder, dataset: Dataset, checkpoint_sha256: str, settings: EvaluationSettings,
) -> str:
    """Key of everything that the features of a data set depend on."""
    preprocessor = encoder.data_preprocessor
    return cache_key(
        weights=checkpoint_sha256, branch=settings.branch, backbone=cfg.model.backbone.to_dict(), pool=settings.pool,
        data=sha256_of_dataset(dataset), transform=repr(getattr(dataset, 'pipeline', None)),
        normalisation=[preprocessor.to_rgb, *(getattr(preprocessor, name).flatten().tolist() for name in ('mean', 'std')
                                              if hasattr(preprocessor, name))],
        device=torch.device(settings.device).type)


def frozen_features(key: str, encoder: FrozenEncoder, dataset: Dataset, settings: EvaluationSettings) -> Features:
    """Features of a data set, from the cache or extracted into it."""
    cache = FeatureCache(settings.cache)
    found = cache.load(key)
    if found is not None and not (settings.strict and found.unreadable):
        return found
    return cache.extract(key, encoder, dataset, settings.pool, make_loader(settings.batch_size, settings.workers),
                         settings.strict)


def protocol_result(name: str, data: FrozenData, keys: Sequence[str], settings: EvaluationSettings) -> dict:
    """Result of a protocol, kept beside the features for the next call with the same features and settings."""
    listed = settings.protocol.fewshot_list
    listed = sha256_of_file(listed) if listed and Path(listed).is_file() else listed
    key = cache_key(protocol=name, features=list(keys), settings=asdict(settings.protocol), listed=listed,
                    version=__version__)
    path = Path(settings.cache) / 'results' / f'{key}.json'
    if path.is_file():
        return json.loads(path.read_text())
    start = time.perf_counter()
    result = FROZEN_PROTOCOLS[name](data, settings.protocol)
    result['seconds'] = time.perf_counter() - start
    write_json(path, result)
    return result


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


def describe(dataset: Dataset, features: Features) -> dict:
    """What the report says about a data set."""
    return {
        'type': type(dataset).__name__, 'root': str(getattr(dataset, 'data_root', '')), 'images': len(features.labels),
        'classes': len(class_names(dataset)) or int(features.labels.max()) + 1, 'from_cache': features.from_cache,
        'unreadable': len(features.unreadable),
        'unreadable_images': [f'{entry.name}: {entry.reason}' for entry in features.unreadable[:100]]}


def save(report: dict, out: str | Path) -> None:
    """Write table, plot and, last, ``report.json`` into a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'report.txt').write_text(report_table(report) + '\n')
    plot_report(report, out / 'report.png')
    write_json(out / 'report.json', report)
    print_log(f'wrote {out / "report.json"}', logger='current')
